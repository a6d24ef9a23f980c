/**
 * The X.509 library, for what is encoded once and for all. The only file that imports `@peculiar/x509`, and so the only
 * one that has to know that `reflect-metadata` comes first. What is read, assembled or signed for each request is done
 * on the bytes (der.ts): with the library it took ten times as long. The tests compare the two.
 */
import 'reflect-metadata'

export {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  type Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
} from '@peculiar/x509'
