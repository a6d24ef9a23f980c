/** A little gRPC service without generated code: texts in, texts out. */
import {
  Client,
  type ClientReadableStream,
  credentials,
  Metadata,
  type Server,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from '@grpc/grpc-js'
import type { IdentitySnapshot } from '../../src/identity/identity.ts'

const write = (text: string): Buffer => Buffer.from(text)
const read = (bytes: Buffer): string => bytes.toString()
const method = (path: string, responseStream: boolean) => ({
  path,
  requestStream: false,
  responseStream,
  requestSerialize: write,
  requestDeserialize: read,
  responseSerialize: write,
  responseDeserialize: read,
})
const ECHO = method('/test.Echo/Echo', false)
const WATCH = method('/test.Echo/Watch', true)

/** `echo` answers with the subject of the client; `watch` tells the request back until `finish` is called. */
export function addEcho(server: Server): { finish(): void } {
  const watching = new Set<ServerWritableStream<string, string>>()
  server.addService(
    { echo: ECHO, watch: WATCH },
    {
      echo: (call: ServerUnaryCall<string, string>, answer: sendUnaryData<string>) => {
        const subject = call.getAuthContext().sslPeerCertificate?.subject.CN ?? 'nobody'
        answer(null, `${call.request} ${subject}`)
      },
      watch: (call: ServerWritableStream<string, string>) => {
        watching.add(call)
        call.on('cancelled', () => watching.delete(call))
        call.write(call.request)
      },
    },
  )
  return {
    finish: () => {
      for (const call of watching) {
        call.write('last')
        call.end()
      }
      watching.clear()
    },
  }
}

export interface EchoClient {
  echo(text: string): Promise<string>
  watch(text: string): ClientReadableStream<string>
  close(): void
}

/** A client that shows this leaf; grpc-js trusts roots only, so the root is given beside. */
export function echoClient(port: number, snapshot: IdentitySnapshot, root: string): EchoClient {
  const trust = credentials.createSsl(
    Buffer.from(root),
    Buffer.from(snapshot.key),
    Buffer.from(snapshot.certificate),
  )
  // no connection shared with other clients of this process
  const options = { 'grpc.use_local_subchannel_pool': 1 }
  const client = new Client(`localhost:${port}`, trust, options)
  return {
    echo: (text) =>
      new Promise((resolve, reject) => {
        const { path, requestSerialize, responseDeserialize } = ECHO
        client.makeUnaryRequest(
          path,
          requestSerialize,
          responseDeserialize,
          text,
          new Metadata(),
          (error, answer) =>
            error || answer === undefined ? reject(error ?? new Error('no answer')) : resolve(answer),
        )
      }),
    watch: (text) =>
      client.makeServerStreamRequest(WATCH.path, WATCH.requestSerialize, WATCH.responseDeserialize, text),
    close: () => client.close(),
  }
}
