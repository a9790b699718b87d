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

// Fold keeps refusals from filling the trail: the first of a network is recorded
// at once, those that follow within a minute become one entry with their count.
// Refusals of different accounts are never joined: each is in the activity of
// its person. It is safe for concurrent use.
type Fold struct {
	mu      sync.Mutex
	windows map[foldKey]*window // guarded by mu
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
	if w == nil && len(f.windows) >= maxFolds {
		key.network = ""
		w = f.windows[key]
	}
	if w == nil {
		f.windows[key] = &window{opened: now, reasons: map[string]int{}}
		return true
	}
	w.add(e)
	return false
}

// add joins an entry to those that wait.
func (w *window) add(e Entry) {
	w.reasons[e.Reason]++
	if w.entry.Count == 0 {
		w.entry, w.entry.Count = e, 1
		return
	}
	w.entry.Count++
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
	return f.take(func(w *window) bool { return now.Sub(w.opened) >= foldFor || now.Before(w.opened) }, now)
}

// All returns everything that waits: nothing may be lost at the end.
func (f *Fold) All(now time.Time) []Entry {
	return f.take(func(*window) bool { return true }, now)
}

func (f *Fold) take(due func(*window) bool, now time.Time) []Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	var entries []Entry
	for key, w := range f.windows {
		switch {
		case !due(w):
		case w.entry.Count == 0:
			delete(f.windows, key)
		default:
			entries = append(entries, w.folded())
			f.windows[key] = &window{opened: now, reasons: map[string]int{}}
		}
	}
	return entries
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
