# Two images: `rotor` (the command, all that production needs) and `examples` (the two sample services on top of it).
# The Node version stands here as a default and in docker-compose.yml; a test keeps them the same.
ARG NODE_IMAGE=node:24.21.0-bookworm-slim

FROM $NODE_IMAGE AS build
WORKDIR /app
COPY package.json package-lock.json ./
# Not `npm ci`, for the reason that scripts/setup.mjs gives; the locked versions and their hashes are taken here too.
# No install scripts: the image has its own Node, and no other package needs one.
RUN npm install --no-save --ignore-scripts --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json nats-server.conf ./
COPY src src
COPY agent agent
COPY issuer issuer
COPY cli cli
COPY demo demo
COPY scripts scripts
RUN npm run build && npm prune --omit=dev --ignore-scripts --no-audit --no-fund

FROM $NODE_IMAGE AS rotor
ENV NODE_ENV=production
WORKDIR /app
COPY --from=build /app/package.json /app/nats-server.conf ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY deploy/found.mjs deploy/
# A new named volume takes owner and mode of the folder it is first mounted on. So every folder that is a volume in
# docker-compose.yml is here and belongs to `node`: nothing has to run as root to set them up.
ARG VOLUMES="issuer agents/nats-1 agents/nats-2 agents/nats-3 agents/orders agents/billing servers/nats-1 servers/nats-2 servers/nats-3"
RUN ln -s /app/dist/cli/main.js /usr/local/bin/rotor \
  && for dir in $VOLUMES; do mkdir -p "/rotor/$dir" && chmod 700 "/rotor/$dir"; done \
  && chown -R node:node /rotor
USER node
ENTRYPOINT ["rotor"]
CMD ["--help"]

FROM rotor AS examples
COPY examples examples
ENTRYPOINT ["node"]
