package passkey_test

import (
	"testing"

	"bio/app/account"
	"bio/app/passkey"
)

func BenchmarkOptionsJSON(b *testing.B) {
	p := newParty(b)
	b.ReportAllocs()
	for b.Loop() {
		p.OptionsJSON(p.Offer(passkey.SignIn, binding))
	}
}

func BenchmarkParse(b *testing.B) {
	p := newParty(b)
	d := newDevice()
	offer := p.Offer(passkey.SignIn, binding)
	for _, c := range []struct {
		name       string
		credential []byte
	}{
		{"registration", d.create(offer)},
		{"assertion", d.get(offer)},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := passkey.Parse(c.credential); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkVerify includes parsing: verifying may change what was parsed.
func BenchmarkVerify(b *testing.B) {
	p := newParty(b)
	d, stored := p.registered(b, synced, 0)
	registration := newDevice().create(p.Offer(passkey.SignIn, binding))
	assertion := d.get(p.Offer(passkey.SignIn, binding))
	for _, c := range []struct {
		name   string
		verify func() error
	}{
		{"registration", func() error { _, err := p.register(registration); return err }},
		{"assertion", func() error { _, err := p.assert(assertion, stored); return err }},
		{"unknown passkey", func() error {
			_, err := p.assert(assertion, account.Credential{})
			if err == nil {
				b.Error("accepted")
			}
			return nil
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.verify(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
