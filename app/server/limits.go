package server

import (
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"

	"bio/app/config"
)

// total is how many clients' worth of attempts the whole site takes on at once.
const total = 250

// clients is how many clients are told apart; the longest silent is forgotten.
const clients = 65536

// limits bounds what one client, and all together, may ask for. A client is an
// IPv4 address or an IPv6 /64.
type limits struct {
	attempt, refusal config.Rate
	all              *rate.Limiter
	mu               sync.Mutex
	clients          *simplelru.LRU[netip.Prefix, *bucket] // guarded by mu
}

type bucket struct{ attempts, refusals *rate.Limiter }

func newLimits(attempt, refusal config.Rate) *limits {
	known, err := simplelru.NewLRU[netip.Prefix, *bucket](clients, nil)
	if err != nil {
		panic(err) // only for a size below one
	}
	return &limits{
		attempt: attempt, refusal: refusal, clients: known,
		all: rate.NewLimiter(rate.Limit(attempt.PerSecond()*total), attempt.Burst*total),
	}
}

func (l *limits) bucket(addr netip.Addr) *bucket {
	addr = addr.Unmap().WithZone("")
	bits := 64
	if addr.Is4() {
		bits = 32
	}
	key, _ := addr.Prefix(bits)
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.clients.Get(key)
	if !ok {
		b = &bucket{
			attempts: rate.NewLimiter(rate.Limit(l.attempt.PerSecond()), l.attempt.Burst),
			refusals: rate.NewLimiter(rate.Limit(l.refusal.PerSecond()), l.refusal.Burst),
		}
		l.clients.Add(key, b)
	}
	return b
}

// allow takes one attempt of the client; when there is none left it says how
// long to wait.
func (l *limits) allow(addr netip.Addr, now time.Time) (wait time.Duration, ok bool) {
	b := l.bucket(addr)
	for _, limiter := range []*rate.Limiter{b.refusals, b.attempts, l.all} {
		if missing := 1 - limiter.TokensAt(now); missing > 0 {
			return time.Duration(math.Ceil(missing/float64(limiter.Limit()))) * time.Second, false
		}
	}
	return 0, b.attempts.AllowN(now, 1) && l.all.AllowN(now, 1)
}

// refused counts a refusal against the client.
func (l *limits) refused(addr netip.Addr, now time.Time) {
	l.bucket(addr).refusals.AllowN(now, 1)
}
