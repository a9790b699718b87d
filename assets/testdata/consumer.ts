// What a page does with the SDK; it must compile.
import { passkey, PasskeyError } from '../bio.js'
import type { Credential, PasskeyErrorCode, RegisterOptions, SignInOptions, User, Verified } from '../bio.js'

export async function start(signal: AbortSignal): Promise<User | undefined> {
  const options: SignInOptions = { conditional: true, signal }
  try {
    const { user, credential, verified }: Verified = await passkey.signIn(options)
    const yes: true = verified
    return yes && credential.device_type === 'multi' ? user : undefined
  } catch (error) {
    if (error instanceof PasskeyError && error.code === 'dismissed') return undefined
    throw error
  }
}

export async function register(invite?: string): Promise<string> {
  const options: RegisterOptions = invite ? { name: 'Ada', invite } : {}
  await passkey.register()
  return (await passkey.register(options)).user.name
}

export async function tidy(): Promise<Credential[]> {
  for (const one of await passkey.list()) {
    const age = Date.parse(one.last_used_at) - Date.parse(one.created_at)
    if (one.name === '' && one.transports.includes('usb')) await passkey.rename(one.id, 'Key ' + one.aaguid)
    if (age > 0 && one.backup_eligible && !one.backup_state && one.sign_count === 0) {
      const nothing: void = await passkey.delete(one.id)
      void nothing
    }
  }
  return passkey.list()
}

// Exhaustive: a code that is missing here, or not in the types, does not compile.
const sentences: Record<PasskeyErrorCode, string> = {
  dismissed: 'Nothing happened.',
  no_passkey: 'That passkey is not known here.',
  unsupported: 'This browser cannot do that.',
  expired: 'That took too long.',
  reauthentication_required: 'Sign in once more.',
  refused: 'That passkey was not accepted.',
  not_allowed: 'That needs an invitation.',
  already_registered: 'There is a passkey already.',
  signed_out: 'You are signed out.',
  last_passkey: 'That is the last passkey.',
  too_many_passkeys: 'Remove a passkey first.',
  bad_name: 'That name cannot be.',
  no_cookie: 'Allow cookies.',
  too_many: 'Slow down.',
  unavailable: 'Not now.',
  failed: 'Something went wrong.',
}

export function sentence(error: PasskeyError): string {
  const status: number = error.status
  return sentences[error.code] + (error.detail || status)
}
