// The types of bio.js: passkeys of the Bio that serves it, for pages of its own
// and of other origins that it allows (BIO_ORIGINS).
//
//   import { passkey, PasskeyError } from 'https://auth.example.com/assets/bio.js'
//
// Every promise that fails, fails with a PasskeyError.

/** The account that a passkey opens. */
export interface User {
  /** 32 hex digits: the subject of tokens. */
  id: string
  /** Unique, such as `cedar-otter-42`. */
  name: string
}

/** A registered passkey. */
export interface Credential {
  /** The credential id, base64url. */
  id: string
  /** What the person calls it, at first the name of its authenticator. */
  name: string
  /** The make of authenticator, a UUID; zeros when it does not say. */
  aaguid: string
  /** `multi` when it may be synced between devices, `single` when bound to one. */
  device_type: 'single' | 'multi'
  /** Whether it may be backed up. */
  backup_eligible: boolean
  /** Whether it is backed up now. */
  backup_state: boolean
  /** As the browser reported them, such as `internal`, `hybrid`, `usb`. */
  transports: string[]
  /** Signatures so far; 0 when the authenticator does not count. */
  sign_count: number
  /** RFC 3339, in UTC. */
  created_at: string
  /** RFC 3339, in UTC. */
  last_used_at: string
}

/** What `register` and `signIn` come to. The session is in a cookie. */
export interface Verified {
  verified: true
  user: User
  credential: Credential
}

export interface RegisterOptions {
  /** What to call the passkey: 1 to 64 characters. */
  name?: string
  /** The token of an invitation. */
  invite?: string
}

export interface SignInOptions {
  /**
   * Offer passkeys in the autofill of an `<input autocomplete="username webauthn">`
   * and wait until the person picks one. Aborted by the next `register` or `signIn`.
   * A pick after the challenge's life is over fails with `expired`.
   */
  conditional?: boolean
  /** Stops the wait for the person, which then fails with `dismissed`. */
  signal?: AbortSignal
}

/**
 * - `dismissed`: the person stopped it, has no passkey here, or it was aborted
 * - `no_passkey`: Bio does not know this passkey, or no longer
 * - `unsupported`: this browser or device, or the address of this page, cannot do it
 * - `expired`: it took too long; ask the person to try again
 * - `reauthentication_required`: call `signIn`, and then this again
 * - `refused`: that passkey was not accepted
 * - `not_allowed`: no new accounts, an invitation that cannot be used, a disabled account, a
 *   recovery that waits, or a foreign page
 * - `already_registered`: this device has a passkey for the account already
 * - `signed_out`: there is no session; call `signIn`
 * - `last_passkey`: the last passkey of an account cannot be deleted
 * - `too_many_passkeys`: the account has as many passkeys as it can have
 * - `bad_name`: a name that cannot be
 * - `no_cookie`: the browser keeps Bio's cookies back, as from a page of another site
 * - `too_many`: too many attempts; wait
 * - `unavailable`: Bio cannot be reached, or not now
 * - `failed`: anything else; `detail` and `cause` say what
 */
export type PasskeyErrorCode =
  | 'dismissed'
  | 'no_passkey'
  | 'unsupported'
  | 'expired'
  | 'reauthentication_required'
  | 'refused'
  | 'not_allowed'
  | 'already_registered'
  | 'signed_out'
  | 'last_passkey'
  | 'too_many_passkeys'
  | 'bad_name'
  | 'no_cookie'
  | 'too_many'
  | 'unavailable'
  | 'failed'

export class PasskeyError extends Error {
  constructor(code: PasskeyErrorCode, status?: number, detail?: string, cause?: unknown)
  readonly name: 'PasskeyError'
  readonly code: PasskeyErrorCode
  /** The HTTP status, 0 when Bio did not answer or was not asked. */
  readonly status: number
  /** The server's sentence or the browser's message, or empty. */
  readonly detail: string
  /** The problem document (RFC 9457) or the browser's error. */
  readonly cause?: unknown
}

export const passkey: {
  /** Makes a passkey: for a new account, or, signed in, one more for this account. */
  register(options?: RegisterOptions): Promise<Verified>
  /** Signs in with a passkey. */
  signIn(options?: SignInOptions): Promise<Verified>
  /** The account's passkeys. */
  list(): Promise<Credential[]>
  /** Renames a passkey. */
  rename(id: string, name: string): Promise<Credential>
  /** Deletes a passkey, here and in the person's password manager. */
  delete(id: string): Promise<void>
}
