package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// TestScreenshots draws every state in every look into the directory that
// BIO_SCREENSHOTS names.
func TestScreenshots(t *testing.T) {
	dir := os.Getenv("BIO_SCREENSHOTS")
	if dir == "" {
		t.Skip("BIO_SCREENSHOTS names no directory to draw into")
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	draw := func(t *testing.T, name string, p *tab) {
		t.Helper()
		for _, l := range looks {
			p.lookAt(l)
			png, err := chromedp.Run(p.ctx, chromedp.CaptureScreenshot())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name+"-"+l.String()+".png"), png, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, state := range states {
		t.Run(state.name, func(t *testing.T) { draw(t, state.name, state.reach(t)) })
	}
	t.Run("no-script", func(t *testing.T) {
		p := serve(t, nil).browse(t)
		call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		p.open("/")
		draw(t, "no-script", p)
	})
}
