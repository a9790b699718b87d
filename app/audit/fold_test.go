package audit

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func refusal(network, actor, reason string) Entry {
	return Entry{Kind: SignInRefused, Actor: actor, Reason: reason, Client: Client{Network: network, Browser: "Firefox", System: "Linux"}}
}

// stands is for how many acts an entry stands.
func stands(e Entry) int { return max(e.Count, 1) }

func total(entries []Entry) (n int) {
	for _, e := range entries {
		n += stands(e)
	}
	return n
}

// sameEntries compares entries in any order.
func sameEntries(t *testing.T, name string, got, want []Entry) {
	t.Helper()
	text := func(list []Entry) (s []string) {
		for _, e := range list {
			s = append(s, fmt.Sprintf("%+v", e))
		}
		slices.Sort(s)
		return s
	}
	if !slices.Equal(text(got), text(want)) {
		t.Errorf("%s:\n%q, want\n%q", name, text(got), text(want))
	}
}

func TestFold(t *testing.T) {
	const n = "203.0.113.0/24"
	var f Fold
	at := func(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }
	add := func(second int, e Entry, recorded bool) {
		t.Helper()
		if got := f.Add(e, at(second)); got != recorded {
			t.Errorf("second %d: recorded %v", second, got)
		}
	}
	due := func(second int, want ...Entry) {
		t.Helper()
		sameEntries(t, fmt.Sprintf("second %d", second), f.Due(at(second)), want)
	}
	counted := func(e Entry, count int) Entry {
		e.Count = count
		return e
	}

	due(0)
	add(0, refusal(n, "", "unknown"), true)
	due(59)
	add(59, refusal(n, "", "unknown"), false)
	add(59, refusal(n, "", "unknown"), false)
	add(59, refusal("198.51.100.0/24", "", "unknown"), true) // of another network
	add(59, refusal(n, "user-a", "unknown"), true)           // of someone
	add(59, refusal(n, "user-b", "unknown"), true)           // of someone else
	due(60, counted(refusal(n, "", "unknown"), 2))
	due(60)

	// Who goes on has one entry a minute.
	add(61, refusal(n, "", "unknown"), false)
	due(119)
	due(120, counted(refusal(n, "", "unknown"), 1)) // the others had but one, and are forgotten
	add(121, refusal(n, "", "unknown"), false)
	add(121, refusal(n, "user-a", "unknown"), true)
	due(179)
	due(181, counted(refusal(n, "", "unknown"), 1))

	// Who stops for a minute begins again.
	due(241)
	due(241)
	add(242, refusal(n, "", "unknown"), true)
}

// A folded entry says what all of its acts have in common.
func TestFolded(t *testing.T) {
	full := Entry{
		Kind: SignInRefused, Actor: "user-a", Subject: "user-s", Credential: "0123", Session: "session", Reason: "signature",
		Client: Client{"203.0.113.0/24", "Firefox", "Linux"}, Detail: map[string]string{"a": "b"},
	}
	with := func(change func(*Entry)) Entry {
		e := full
		change(&e)
		return e
	}
	for _, tt := range []struct {
		name string
		add  []Entry
		want Entry
	}{
		{"the same", []Entry{full, full, full}, with(func(e *Entry) { e.Count = 3 })},
		{"one", []Entry{full}, with(func(e *Entry) { e.Count = 1 })},
		{"another passkey", []Entry{full, with(func(e *Entry) { e.Credential = "4567" })}, with(func(e *Entry) { e.Count, e.Credential = 2, "" })},
		{"no passkey, then one", []Entry{with(func(e *Entry) { e.Credential = "" }), full}, with(func(e *Entry) { e.Count, e.Credential = 2, "" })},
		{"a passkey twice after another", []Entry{with(func(e *Entry) { e.Credential = "4567" }), full, full}, with(func(e *Entry) { e.Count, e.Credential = 3, "" })},
		{"another session", []Entry{full, with(func(e *Entry) { e.Session = "other" })}, with(func(e *Entry) { e.Count, e.Session = 2, "" })},
		{"another subject", []Entry{full, with(func(e *Entry) { e.Subject = "other" })}, with(func(e *Entry) { e.Count, e.Subject = 2, "" })},
		{"another browser", []Entry{full, with(func(e *Entry) { e.Client.Browser = "Chrome" })}, with(func(e *Entry) { e.Count, e.Client.Browser = 2, "" })},
		{"another system", []Entry{full, with(func(e *Entry) { e.Client.System = "" })}, with(func(e *Entry) { e.Count, e.Client.System = 2, "" })},
		{"another detail", []Entry{full, with(func(e *Entry) { e.Detail = map[string]string{"a": "c"} })}, with(func(e *Entry) { e.Count, e.Detail = 2, nil })},
		{
			"several reasons", []Entry{full, with(func(e *Entry) { e.Reason = "expired" }), with(func(e *Entry) { e.Reason = "expired" })},
			with(func(e *Entry) {
				e.Count, e.Reason, e.Detail = 3, "several", map[string]string{"signature": "1", "expired": "2"}
			}),
		},
	} {
		var f Fold
		f.Add(full, began) // opens the window, and is no part of it
		for _, e := range tt.add {
			if f.Add(e, began) {
				t.Errorf("%s: recorded", tt.name)
			}
		}
		sameEntries(t, tt.name, f.All(began), []Entry{tt.want})
	}
	if !maps.Equal(full.Detail, map[string]string{"a": "b"}) {
		t.Error("the caller's detail was changed")
	}
}

// Each refusal is in one entry, however many networks there are; and those that
// are recorded at once are bounded.
func TestFoldOverflow(t *testing.T) {
	var f Fold
	var recorded, folded []Entry
	const networks, rounds = 10_000, 3
	for range rounds {
		for i := range networks {
			if e := refusal(fmt.Sprintf("10.%d.%d.0/24", i/256, i%256), "", "unknown"); f.Add(e, began) {
				recorded = append(recorded, e)
			}
		}
	}
	if len(recorded) != maxFolds+1 || len(f.windows) != maxFolds+1 {
		t.Errorf("%d are recorded at once, %d told apart", len(recorded), len(f.windows))
	}

	// A person is not hidden in the crowd.
	for _, id := range []string{"user-a", "user-b"} {
		if !f.Add(refusal("10.200.0.0/24", id, "signature"), began) {
			t.Errorf("the first refusal of %s is folded", id)
		}
		if f.Add(refusal("10.201.0.0/24", id, "signature"), began) {
			t.Errorf("the second refusal of %s, from another network, is not folded", id)
		}
	}
	folded = f.Due(began.Add(foldFor))
	if got := total(recorded) + total(folded); got != networks*rounds+2 {
		t.Errorf("%d refusals are in entries, want %d", got, networks*rounds+2)
	}
	if len(folded) != maxFolds+1+2 {
		t.Errorf("%d entries of a minute", len(folded))
	}
	for _, e := range folded {
		switch {
		case e.Actor != "":
			if e.Count != 1 || e.Client.Network != "10.201.0.0/24" {
				t.Errorf("of a person: %+v", e)
			}
		case e.Client.Network == "":
			if e.Count != (networks-maxFolds)*rounds-1 {
				t.Errorf("of all others: %+v", e)
			}
		case e.Count != rounds-1:
			t.Errorf("of a network: %+v", e)
		}
	}

	// When the crowd is gone, networks are told apart again.
	for n := range 3 {
		if late := f.Due(began.Add(time.Duration(n+2) * foldFor)); len(late) > 0 {
			t.Errorf("%+v comes from nothing", late)
		}
	}
	if len(f.windows) != 0 || !f.Add(refusal("10.0.0.0/24", "", "unknown"), began.Add(time.Hour)) {
		t.Errorf("%d windows are left", len(f.windows))
	}
}

// A clock that is put back holds nothing up.
func TestFoldClockBack(t *testing.T) {
	var f Fold
	e := refusal("203.0.113.0/24", "", "unknown")
	f.Add(e, began)
	f.Add(e, began.Add(-24*time.Hour))
	if due := f.Due(began.Add(-24 * time.Hour)); total(due) != 1 || len(due) != 1 {
		t.Errorf("%+v", due)
	}
	f.Add(e, began.Add(-24*time.Hour))
	if due := f.Due(began.Add(-24*time.Hour + foldFor)); total(due) != 1 || len(due) != 1 {
		t.Errorf("%+v", due)
	}
}

func TestFoldAll(t *testing.T) {
	var f Fold
	if all := f.All(began); all != nil {
		t.Errorf("of nothing: %+v", all)
	}
	for i := range 5 {
		for range i + 1 {
			f.Add(refusal("n"+strconv.Itoa(i), "", "unknown"), began)
		}
	}
	if all := f.All(began); len(all) != 4 || total(all) != 1+2+3+4 {
		t.Errorf("%+v", all)
	}
	if all := f.All(began); all != nil {
		t.Errorf("again: %+v", all)
	}
}

// Nothing is lost and nothing counted twice, whatever comes when.
func TestFoldCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f Fold
		now, given, taken := began, map[string]int{}, map[string]int{}
		take := func(entries ...Entry) {
			for _, e := range entries {
				taken[e.Actor] += stands(e)
			}
		}
		for range rapid.IntRange(0, 300).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(-10, 30).Draw(t, "seconds")) * time.Second)
			switch rapid.IntRange(0, 20).Draw(t, "step") {
			case 0:
				take(f.Due(now)...)
			case 1:
				take(f.All(now)...)
			default:
				e := refusal(strconv.Itoa(rapid.IntRange(0, 2*maxFolds).Draw(t, "network")), rapid.SampledFrom([]string{"", "", "user-a", "user-b"}).Draw(t, "actor"), rapid.SampledFrom([]string{"", "unknown", "expired"}).Draw(t, "reason"))
				given[e.Actor]++
				if f.Add(e, now) {
					take(e)
				}
			}
		}
		take(f.All(now)...)
		if !maps.Equal(given, taken) {
			t.Fatalf("given %v, taken %v", given, taken)
		}
	})
}

func TestFoldConcurrently(t *testing.T) {
	const workers, each = 8, 500
	var f Fold
	var counts [workers]int
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range each {
				e := refusal(strconv.Itoa(i%7), "", strconv.Itoa(w%2))
				if f.Add(e, began) {
					counts[w]++
				}
				if i%50 == 0 {
					counts[w] += total(f.Due(began.Add(foldFor)))
				}
			}
		})
	}
	group.Wait()
	sum := total(f.All(began))
	for _, n := range counts {
		sum += n
	}
	if sum != workers*each {
		t.Errorf("%d refusals are in entries, want %d", sum, workers*each)
	}
}
