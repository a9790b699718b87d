// The SDK: passkeys of the Bio that serves this module, for pages of its own and
// of other origins that it allows. Types and what each call does: bio.d.ts.
// Options are decoded and credentials encoded by hand: toJSON() throws beside
// several password managers.
const PKC = self.PublicKeyCredential

// What the server's problems and the browser's errors come to; the rest is 'failed'.
const codes = {
  __proto__: null,
  refused: 'refused',
  unknown_passkey: 'no_passkey',
  not_found: 'no_passkey',
  signed_out: 'signed_out',
  expired: 'expired',
  used: 'expired',
  already_registered: 'already_registered',
  last_passkey: 'last_passkey',
  reauthentication_required: 'reauthentication_required',
  registration_not_allowed: 'not_allowed',
  invitation: 'not_allowed',
  cross_site: 'not_allowed',
  disabled: 'not_allowed',
  recovery_waits: 'not_allowed',
  too_many_passkeys: 'too_many_passkeys',
  no_cookie: 'no_cookie',
  bad_name: 'bad_name',
  too_many: 'too_many',
  unavailable: 'unavailable',
  // Proxies answer without a problem document.
  429: 'too_many',
  502: 'unavailable',
  503: 'unavailable',
  504: 'unavailable',
  NotAllowedError: 'dismissed',
  AbortError: 'dismissed',
  InvalidStateError: 'already_registered',
  NotSupportedError: 'unsupported',
  SecurityError: 'unsupported',
  ConstraintError: 'unsupported',
}

export class PasskeyError extends Error {
  constructor(code, status = 0, detail = '', cause) {
    super(detail || code, { cause })
    this.name = 'PasskeyError'
    this.code = code
    this.status = status
    this.detail = detail
  }
}

const thrown = (error, otherwise) => error instanceof PasskeyError ? error
  : new PasskeyError(codes[error?.name] || otherwise, 0, error?.message, error)

const encode = buffer => btoa(String.fromCharCode(...new Uint8Array(buffer)))
  .replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
const decode = text => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), c => c.charCodeAt())

// Signals keep the person's password manager true. Never awaited: some browsers
// never settle them.
const signal = (method, options) => {
  try { PKC[method](options).catch(() => {}) } catch {}
}

// call is one exchange with the API, which is found by the module's own address.
const call = async (method, path, body, abort) => {
  let reply, text, answer
  try {
    reply = await fetch(new URL('../auth/webauthn/' + path, import.meta.url), {
      method,
      credentials: 'include',
      headers: body && { 'Content-Type': 'application/json' },
      body: body && JSON.stringify(body),
      signal: abort,
    })
    text = await reply.text()
  } catch (error) {
    throw thrown(error, 'unavailable')
  }
  try { answer = JSON.parse(text || '{}') } catch {}
  for (const [method, options] of answer?.signals || []) signal(method, options)
  delete answer?.signals
  if (reply.ok && answer) return answer
  const problem = /^urn:bio:(.+)/.exec(answer?.type)?.[1]
  throw new PasskeyError(codes[problem] || codes[reply.status] || 'failed', reply.status, answer?.detail, answer)
}

let running

// ceremony is begin, the browser's part and finish. Once the person has done
// theirs, nothing is asked of them again.
const ceremony = async (name, method, body, { conditional, signal: outer } = {}) => {
  running?.abort()
  const inner = running = new AbortController()
  const abort = () => inner.abort()
  if (outer?.aborted) abort()
  outer?.addEventListener('abort', abort)
  let publicKey, sent
  try {
    if (!PKC || conditional && !await PKC.isConditionalMediationAvailable?.()) throw new PasskeyError('unsupported')
    const begin = () => call('POST', name + '/begin', body, inner.signal);
    ({ publicKey } = await begin().catch(error => {
      if (error.code != 'expired') throw error
      return begin()
    }))
    const { challenge, user, allowCredentials, excludeCredentials } = publicKey
    const decoded = one => one && { ...one, id: decode(one.id) }
    const { rawId, type, response } = await navigator.credentials[method]({
      publicKey: {
        ...publicKey,
        challenge: decode(challenge),
        user: decoded(user),
        allowCredentials: allowCredentials?.map(decoded),
        excludeCredentials: excludeCredentials?.map(decoded),
      },
      mediation: conditional ? 'conditional' : undefined,
      signal: inner.signal,
    })
    const id = encode(rawId)
    sent = { id, rawId: id, type, response: {} }
    for (const member of ['clientDataJSON', 'attestationObject', 'authenticatorData', 'signature', 'userHandle']) {
      if (response[member]) sent.response[member] = encode(response[member])
    }
    try { sent.response.transports = response.getTransports() } catch {}
  } catch (error) {
    throw thrown(error, 'failed')
  } finally {
    outer?.removeEventListener('abort', abort)
  }
  return call('POST', name + '/finish', sent).catch(error => {
    if (error.cause?.type == 'urn:bio:unknown_passkey') {
      signal('signalUnknownCredential', { rpId: publicKey.rpId || location.hostname, credentialId: sent.id })
    }
    throw error
  })
}

const one = id => 'credentials/' + encodeURIComponent(id)

export const passkey = {
  register: ({ name, invite } = {}) => ceremony('register', 'create', { name, invite }),
  signIn: options => ceremony('sign-in', 'get', {}, options),
  list: () => call('GET', 'credentials'),
  rename: (id, name) => call('PATCH', one(id), { name }),
  delete: async id => { await call('DELETE', one(id)) },
}
