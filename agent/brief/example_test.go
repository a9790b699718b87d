package brief_test

import (
	"fmt"
	"time"

	"bio/agent"
	"bio/agent/brief"
)

func ExampleWrite() {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	user := agent.User{Name: "cedar-otter-42"}
	fmt.Println(brief.Write(user, brief.Facts{
		Visit:    brief.Visit{At: now, Browser: "Firefox", System: "Linux"},
		Last:     brief.Visit{At: now.Add(-30 * time.Hour), Browser: "Firefox", System: "Linux"},
		Passkeys: []brief.Passkey{{Name: "YubiKey", Created: now.AddDate(0, -1, 0)}},
	}, now))
	// Output:
	// Welcome back, cedar-otter-42. You were last here yesterday, with Firefox on Linux.
	//
	// All is quiet since then. Your only passkey lives on one device and cannot be backed up. [Add a second passkey](/account#passkeys), so that a lost device does not lock you out.
}
