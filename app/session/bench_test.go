package session_test

import (
	"testing"
	"time"

	"bio/app/session"
	"bio/app/token"
)

// longKeeper keeps sessions for longer than a benchmark's clock moves.
func (p *place) longKeeper() *session.Keeper {
	const year = 365 * 24 * time.Hour
	return session.New(session.Options{
		Store: p.db, Keys: token.NewKeyring(seed), Issuer: issuer, Idle: year, Max: year, Now: p.clock.Now,
	})
}

func BenchmarkCheck(b *testing.B) {
	for _, c := range []struct {
		name   string
		before func(p *place, k *session.Keeper, id string) // of each check
	}{
		{"remembered", func(*place, *session.Keeper, string) {}},
		{"read again", func(p *place, _ *session.Keeper, _ string) { p.clock.Advance(time.Second + time.Millisecond) }},
		{"not remembered", func(_ *place, k *session.Keeper, id string) { k.Forget(id) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := newPlace(b)
			k := p.longKeeper()
			s, _, compact := p.signIn(k)
			b.ReportAllocs()
			for b.Loop() {
				c.before(p, k, s.ID)
				if _, _, err := k.Check(b.Context(), compact); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkToken(b *testing.B) {
	p := newPlace(b)
	k := p.longKeeper()
	s, u, _ := p.signIn(k)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Token(s, u, true); err != nil {
			b.Fatal(err)
		}
	}
}
