// Every line that says "wrong" must fail to compile, and no other.
import { passkey, PasskeyError } from '../bio.js'
import type { PasskeyErrorCode } from '../bio.js'

export async function misuse(error: PasskeyError): Promise<void> {
  await passkey.signIn({ conditional: 'yes' }) // wrong: a boolean
  await passkey.signIn({ signal: new AbortController() }) // wrong: its signal
  await passkey.signIn({ timeout: 1000 }) // wrong: no such option
  await passkey.register({ name: 7 }) // wrong: a string
  await passkey.register('Ada') // wrong: options
  await passkey.rename('id') // wrong: no name
  await passkey.delete() // wrong: no id
  await passkey.remove('id') // wrong: delete
  const all: string[] = await passkey.list() // wrong: credentials
  const one: { id: number } = (await passkey.signIn()).credential // wrong: a string
  const code: PasskeyErrorCode = 'cancelled' // wrong: no such code
  error.code = 'failed' // wrong: read-only
  if (error.code === 'timeout') return // wrong: no such code
  new PasskeyError('nothing') // wrong: no such code
  void [all, one, code]
}
