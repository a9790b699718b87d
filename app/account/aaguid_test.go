package account

import (
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func aaguid(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAuthenticator(t *testing.T) {
	for text, want := range map[string]string{
		"fbfc3007-154e-4ecc-8c0b-6e020557d7bd":   "Apple Passwords",
		"dd4ec289-e01d-41c9-bb89-70fa845d4bf2":   "iCloud Keychain (Managed)",
		"ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4":   "Google Password Manager",
		"08987058-cadc-4b81-b6e1-30de50dcbe96":   "Windows Hello",
		"9ddd1817-af5a-4672-a2b9-3e3dd95000a9":   "Windows Hello",
		"6028b017-b1d4-4c02-b4b3-afcdafc96bb2":   "Windows Hello",
		"cb69481e-8ff7-4039-93ec-0a2729a154a8":   "YubiKey 5 Series",
		"fa2b99dc-9e39-4257-8f92-4a30d23c4118":   "YubiKey 5 Series with NFC",
		"bada5566-a7aa-401f-bd96-45619a55120d":   "1Password",
		"d548826e-79b4-db40-a3d8-11116f7e8349":   "Bitwarden",
		"53414d53-554e-4700-0000-000000000000":   "Samsung Pass",
		"891494da-2c90-4d31-a9cd-4eab0aed1309":   "Sésame",
		"00000000-0000-0000-0000-000000000000":   "",
		"ffffffff-ffff-ffff-ffff-ffffffffffff":   "",
		"cb69481e-8ff7-4039-93ec-0a2729a154a9":   "",
		"cb69481e-8ff7-4039-93ec-0a2729a154":     "",
		"cb69481e-8ff7-4039-93ec-0a2729a154a800": "",
		"":                                       "",
	} {
		if got := Authenticator(aaguid(t, text)); got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
	if got := Authenticator(nil); got != "" {
		t.Errorf("nothing is %q", got)
	}
}

// The search rests on the table's form: every line is found, and its neighbours
// that are not there are not.
func TestAuthenticatorTable(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} \S(.*\S)?$`)
	body, ok := strings.CutSuffix(aaguidTable, "\n")
	lines := strings.Split(body, "\n")
	if !ok || len(lines) < 300 || len(aaguidTable) > 64<<10 {
		t.Fatalf("%d lines in %d bytes, the last one ended: %t", len(lines), len(aaguidTable), ok)
	}
	var keys []string
	for _, line := range lines {
		if !form.MatchString(line) {
			t.Errorf("line %q", line)
			continue
		}
		key, name, _ := strings.Cut(line, " ")
		keys = append(keys, key)
		if got := Authenticator(aaguid(t, key)); got != name {
			t.Errorf("%s is %q, want %q", key, got, name)
		}
	}
	if !slices.IsSorted(keys) {
		t.Error("the table is not sorted")
	}
	if n := len(slices.Compact(slices.Clone(keys))); n != len(keys) {
		t.Errorf("%d AAGUIDs are there twice", len(keys)-n)
	}
	for _, key := range keys {
		near := aaguid(t, key)
		for _, step := range []byte{1, 255} {
			near[15] += step
			if _, known := slices.BinarySearch(keys, uuid(near)); !known && Authenticator(near) != "" {
				t.Errorf("%x is %q", near, Authenticator(near))
			}
			near[15] -= step
		}
	}
}

func FuzzAuthenticator(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(make([]byte, 16))
	f.Add([]byte{0xfb, 0xfc, 0x30, 0x07, 0x15, 0x4e, 0x4e, 0xcc, 0x8c, 0x0b, 0x6e, 0x02, 0x05, 0x57, 0xd7, 0xbd})
	f.Fuzz(func(t *testing.T, aaguid []byte) {
		name := Authenticator(aaguid)
		known := len(aaguid) == 16 && strings.Contains("\n"+aaguidTable, "\n"+uuid(aaguid)+" ")
		if known != (name != "") {
			t.Errorf("%x is %q", aaguid, name)
		}
	})
}

func BenchmarkAuthenticator(b *testing.B) {
	unknown := make([]byte, 16)
	for b.Loop() {
		Authenticator(unknown)
	}
}
