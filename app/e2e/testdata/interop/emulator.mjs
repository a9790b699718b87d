// A program that uses the JSON API of the Bio at the given origin with an
// authenticator in software: node emulator.mjs ORIGIN. It fails by its exit code.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'

// Where make setup puts what comes from npm.
const installed = createRequire(new URL('../../../../.cache/', import.meta.url))
const { AuthenticatorEmulator, PasskeysCredentialsMemoryRepository, WebAuthnEmulator } = installed('nid-webauthn-emulator')

const origin = process.argv[2]

// Without a repository of its own, an authenticator shares its passkeys with all.
const authenticator = () => new WebAuthnEmulator(new AuthenticatorEmulator({
  credentialsRepository: new PasskeysCredentialsMemoryRepository(),
}))

// fetch keeps no cookies.
const cookies = new Map()
const keep = line => {
  const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)
  if (/; *max-age=0/i.test(line)) cookies.delete(name)
  else cookies.set(name, value)
}

// call checks the status of the answer and returns its body. A refusal is a
// problem document that names what is wrong.
const call = async (method, path, body, status, code) => {
  const reply = await fetch(`${origin}/auth/${path}`, {
    method,
    headers: {
      Cookie: [...cookies].map(pair => pair.join('=')).join('; '),
      ...body && { 'Content-Type': 'application/json' },
    },
    body: body && JSON.stringify(body),
  })
  reply.headers.getSetCookie().forEach(keep)
  const text = await reply.text()
  assert.equal(reply.status, status, `${method} ${path}: ${text}`)
  if (!code) return text && JSON.parse(text)
  assert.equal(reply.headers.get('Content-Type'), 'application/problem+json')
  const problem = JSON.parse(text)
  assert.deepEqual([problem.type, problem.status, problem.code], [`urn:bio:${code}`, status, code])
  return problem
}

const create = async (on, body = {}) =>
  on.createJSON(origin, (await call('POST', 'webauthn/register/begin', body, 200)).publicKey)
const register = async (on, body) => call('POST', 'webauthn/register/finish', await create(on, body), 200)

const get = async on =>
  on.getJSON(origin, (await call('POST', 'webauthn/sign-in/begin', {}, 200)).publicKey)
const signIn = async on => call('POST', 'webauthn/sign-in/finish', await get(on), 200)

const list = () => call('GET', 'webauthn/credentials', undefined, 200)

// changed is an answer with one member of its response changed.
const changed = (answer, member, change) => {
  const bytes = Buffer.from(answer.response[member], 'base64url')
  return { ...answer, response: { ...answer.response, [member]: Buffer.from(change(bytes)).toString('base64url') } }
}
const flipped = at => bytes => {
  bytes[(at + bytes.length) % bytes.length] ^= 1
  return bytes
}
const elsewhere = bytes => String(bytes).replace(origin, 'https://bio.example')

const first = authenticator(), second = authenticator()
await call('GET', 'session', undefined, 401, 'signed_out')

// What is refused makes no account.
for (const refused of [
  changed(await create(authenticator()), 'clientDataJSON', elsewhere),
  { ...await create(authenticator()), clientExtensionResults: { appid: true } }, // which nobody asked for
]) await call('POST', 'webauthn/register/finish', refused, 401, 'refused')
await call('GET', 'session', undefined, 401, 'signed_out')

const made = await register(first, { name: 'Script' })
assert.equal(made.verified, true)
assert.equal(made.credential.name, 'Script')
assert.equal((await call('GET', 'session', undefined, 200)).user.id, made.user.id)
await call('POST', 'sign-out', undefined, 204)
await call('GET', 'session', undefined, 401, 'signed_out')

const back = await signIn(first)
assert.deepEqual(back.user, made.user)
assert.equal(back.credential.id, made.credential.id)

// The options of a further passkey exclude those that the account has.
await assert.rejects(create(first), { name: 'NotAllowedError' })
const added = await register(second, { name: 'Spare' })
assert.deepEqual(added.user, made.user)
assert.deepEqual((await list()).map(one => one.name), ['Script', 'Spare'])
assert.deepEqual((await signIn(second)).user, made.user)
await signIn(first)

await call('DELETE', `webauthn/credentials/${added.credential.id}`, undefined, 204)
assert.deepEqual((await list()).map(one => one.id), [made.credential.id])
await call('DELETE', `webauthn/credentials/${made.credential.id}`, undefined, 409, 'last_passkey')
await call('POST', 'sign-out', undefined, 204)
await call('POST', 'webauthn/sign-in/finish', await get(second), 401, 'unknown_passkey')

for (const [member, change] of [
  ['signature', flipped(-1)],
  ['authenticatorData', flipped(0)], // hash of the relying party's id
  ['authenticatorData', flipped(32)], // user present
  ['authenticatorData', flipped(-1)], // counter
  ['clientDataJSON', elsewhere],
]) await call('POST', 'webauthn/sign-in/finish', changed(await get(first), member, change), 401, 'refused')
await call('GET', 'session', undefined, 401, 'signed_out')
assert.deepEqual((await signIn(first)).user, made.user)
