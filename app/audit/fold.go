package audit

import (
	"maps"
	"strconv"
	"sync"
	"time"
)

// foldFor is the time in which refusals become one entry.
const foldFor = time.Minute

// maxFolds bounds how many networks are told apart at once. Beyond it those that
// name nobody share one entry, those that name a person one for each.
const maxFolds = 100

// maxNobody bounds the entries of an hour that name nobody, all networks together:
// beyond it they share one entry a minute. Whoever changes networks fills no disk.
const maxNobody = 120

// Fold keeps refusals from filling the trail: the first of a network is recorded
// at once, those that follow within a minute become one entry with their count.
// Refusals of different accounts are never joined: each is in the activity of
// its person. It is safe for concurrent use.
type Fold struct {
	mu      sync.Mutex
	windows map[foldKey]*window // guarded by mu, as all below
	hour    time.Time           // when the present hour began
	nobody  int                 // entries of it that name nobody
}

type foldKey struct{ network, actor string }

type window struct {
	opened  time.Time
	entry   Entry // of those that wait: what they have in common
	reasons map[string]int
}

// Add takes a refusal. recorded is false when it was folded, and comes back from
// Due.
func (f *Fold) Add(e Entry, now time.Time) (recorded bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.windows == nil {
		f.windows = map[foldKey]*window{}
	}
	key := foldKey{e.Client.Network, e.Actor}
	w := f.windows[key]
	if w == nil && (len(f.windows) >= maxFolds || e.Actor == "" && f.spent(now)) {
		key.network = ""
		w = f.windows[key]
	}
	if w == nil {
		f.windows[key] = &window{opened: now, reasons: map[string]int{}}
		f.spend(key)
		return true
	}
	w.add(e)
	return false
}

// spent reports whether this hour has had its entries that name nobody.
func (f *Fold) spent(now time.Time) bool {
	if now.Sub(f.hour) >= time.Hour || now.Before(f.hour) {
		f.hour, f.nobody = now, 0
	}
	return f.nobody >= maxNobody
}

func (f *Fold) spend(key foldKey) {
	if key.actor == "" && key.network != "" {
		f.nobody++
	}
}

// add joins an entry to those that wait.
func (w *window) add(e Entry) {
	e.Count = 1
	w.join(&window{entry: e, reasons: map[string]int{e.Reason: 1}})
}

// join adds those that wait in another window. What they do not have in common is
// left out.
func (w *window) join(other *window) {
	for reason, n := range other.reasons {
		w.reasons[reason] += n
	}
	if w.entry.Count == 0 {
		w.entry = other.entry
		return
	}
	e := other.entry
	w.entry.Count += e.Count
	for _, field := range []struct {
		kept *string
		next string
	}{
		{&w.entry.Subject, e.Subject}, {&w.entry.Credential, e.Credential}, {&w.entry.Session, e.Session}, {&w.entry.Client.Network, e.Client.Network},
		{&w.entry.Client.Browser, e.Client.Browser}, {&w.entry.Client.System, e.Client.System},
	} {
		if *field.kept != field.next {
			*field.kept = ""
		}
	}
	if !maps.Equal(w.entry.Detail, e.Detail) {
		w.entry.Detail = nil
	}
}

// Due returns the entries whose minute is over. A network that goes on has one
// entry each minute.
func (f *Fold) Due(now time.Time) []Entry {
	return f.take(now, false)
}

// All returns everything that waits: nothing may be lost at the end.
func (f *Fold) All(now time.Time) []Entry {
	return f.take(now, true)
}

func (f *Fold) take(now time.Time, all bool) []Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	var entries []Entry
	one := func(key foldKey, w *window) {
		switch {
		case !all && now.Sub(w.opened) < foldFor && !now.Before(w.opened):
		case w.entry.Count == 0:
			delete(f.windows, key)
		case !all && key.actor == "" && key.network != "" && f.spent(now):
			f.shared(now).join(w)
			delete(f.windows, key)
		default:
			entries = append(entries, w.folded())
			f.spend(key)
			f.windows[key] = &window{opened: now, reasons: map[string]int{}}
		}
	}
	for key, w := range f.windows {
		if key != (foldKey{}) {
			one(key, w)
		}
	}
	if w := f.windows[foldKey{}]; w != nil {
		one(foldKey{}, w) // last: others have joined it
	}
	return entries
}

// shared is the window of all networks that name nobody and are not told apart.
func (f *Fold) shared(now time.Time) *window {
	w := f.windows[foldKey{}]
	if w == nil {
		w = &window{opened: now, reasons: map[string]int{}}
		f.windows[foldKey{}] = w
	}
	return w
}

// folded is the one entry of those that waited. It has their reason, or counts
// them by reason, in place of other detail, when there were several.
func (w *window) folded() Entry {
	e := w.entry
	if len(w.reasons) > 1 {
		e.Reason, e.Detail = "several", map[string]string{}
		for reason, n := range w.reasons {
			e.Detail[reason] = strconv.Itoa(n)
		}
	}
	return e
}
