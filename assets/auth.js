// The press: one WebAuthn ceremony, then an ordinary form post whose answer is
// the next page. What the browser sends back is encoded by hand: toJSON() throws
// beside several password managers.
(() => {
  const { body } = document
  const PKC = self.PublicKeyCredential
  const capabilities = PKC?.getClientCapabilities?.().catch(() => {})
  const all = selector => document.querySelectorAll(selector)
  const forms = all('form[data-options]')
  let busy // the page's: one press at a time

  // This page answers a post: from now on a reload is a plain GET.
  if (body.dataset.here) history.replaceState(null, '', body.dataset.here)

  // Signals keep the person's password manager true. Never awaited: some browsers never settle them.
  for (const [method, options] of JSON.parse(body.dataset.signals || '[]')) PKC?.[method]?.(options).catch(() => {})

  const encode = buffer => btoa(String.fromCharCode(...new Uint8Array(buffer)))
    .replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '')
  const decode = text => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), c => c.charCodeAt())

  const say = (what, name) => {
    for (const line of all('[data-say]')) line.hidden = line.dataset.say != what
    for (const place of all('[data-name]')) place.textContent = name
  }

  for (const form of forms) {
    const { dataset } = form
    const button = form.querySelector('button')
    let options = JSON.parse(dataset.options)
    let born = Date.now()
    let rest = 0
    let renewing, asked

    const idle = () => {
      busy = 0
      button.removeAttribute('aria-busy')
    }

    // Date.now() also counts the time that the device slept.
    const old = share => Date.now() - born > options.ttl * share
    const renew = () => renewing ||= (async () => {
      const reply = await fetch(dataset.ceremony || '/ceremony').catch(() => { throw { name: 'offline' } })
      if (!reply.ok) throw { name: reply.status == 401 ? 'out' : 'later' }
      options = await reply.json()
      born = Date.now()
    })().finally(() => { renewing = 0 })

    const ask = async (mode, more) => {
      asked = mode
      const publicKey = structuredClone(options[mode])
      const { user, allowCredentials = [], excludeCredentials = [] } = publicKey
      publicKey.challenge = decode(publicKey.challenge)
      for (const named of [user, ...allowCredentials, ...excludeCredentials]) if (named) named.id = decode(named.id)
      const { id, rawId, type, response } = await navigator.credentials[mode]({ publicKey, ...more })
      const sent = {}
      for (const member of ['clientDataJSON', 'attestationObject', 'authenticatorData', 'signature', 'userHandle']) {
        if (response[member]) sent[member] = encode(response[member])
      }
      try { sent.transports = response.getTransports() } catch {}
      form.credential.value = JSON.stringify({ id, rawId: encode(rawId), type, response: sent })
      form.submit()
      // Should the person stop the answer, the button works again, with a new challenge.
      setTimeout(() => {
        idle()
        born = 0
      }, 15000)
    }

    // With both kinds of options the press finds out which one it is: only what the
    // browser says at once, without having asked anyone, means that no passkey is
    // here. After its own half second of looking it does not know, and is asked once
    // more.
    const press = async () => {
      if (!options.get) return ask('create')
      if (!options.create) return ask('get')
      for (let again = 0; (await capabilities)?.immediateGet; again++) {
        if (!navigator.userActivation.isActive) throw { name: 'ready' }
        const began = Date.now()
        try {
          return await ask('get', { uiMode: 'immediate' })
        } catch (error) {
          const took = Date.now() - began
          if (error.name != 'NotAllowedError' || !/^No imm/.test(error.message) && took > 250) throw error
          if (took < 450 || again) break
        }
      }
      return ask('known' in dataset || 'closed' in dataset ? 'get' : 'create')
    }

    form.onsubmit = async event => {
      event.preventDefault()
      if (busy) return
      busy = 1
      asked = ''
      button.setAttribute('aria-busy', true)
      say('waiting')
      button.scrollIntoView({ block: 'nearest' }) // from under the line
      const mode = event.submitter?.dataset.mode
      try {
        if (old(.5)) await renew()
        await (mode ? ask(mode) : press())
      } catch ({ name }) {
        idle()
        if (name == 'out') return form.submit() // signed out: the answer says so
        const what = {
          NotAllowedError: 'dismissed', AbortError: 'dismissed', SecurityError: 'elsewhere', InvalidStateError: 'held', offline: name, later: name, ready: name,
        }[name] || 'failed'
        say(what, name)
        if (asked && what != 'elsewhere') for (const other of all('button[data-mode]')) {
          const { mode } = other.dataset
          other.hidden = mode == asked || !options[mode] || 'closed' in dataset && mode == 'create'
        }
      }
    }

    if (!PKC) {
      button.disabled = true
      say(isSecureContext ? 'unsupported' : 'elsewhere')
    }
    for (const type of ['pointerover', 'focusin', 'visibilitychange', 'pageshow']) {
      addEventListener(type, event => {
        if (event.persisted) { // back from the cache: what this page offers may be used up
          idle()
          say()
          born = 0
        }
        // Among several forms only the one that the person comes to.
        if (busy || document.hidden || !old(.3) || Date.now() < rest || forms[1] && !form.contains(event.target)) return
        rest = Date.now() + 5000
        renew().catch(() => {})
      })
    }
  }
})()
