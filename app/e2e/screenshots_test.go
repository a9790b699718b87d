package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
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
			whole := &page.Viewport{
				Width: float64(l.width), Height: eval[float64](p, "Math.max(innerHeight, document.documentElement.scrollHeight)"), Scale: 1,
			}
			drawn := call(p, page.CaptureScreenshot, page.CaptureScreenshotParams{Clip: whole, CaptureBeyondViewport: new(true)})
			if err := os.WriteFile(filepath.Join(dir, name+"-"+l.String()+".png"), drawn.Data, 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, state := range states {
		t.Run(state.name, func(t *testing.T) { draw(t, state.name, state.reach(t)) })
	}
	for name, reach := range map[string]func(*tab){
		"no-script": func(p *tab) { p.open("/") },
		"account-no-script": func(p *tab) {
			p.register()
			p.openAccount()
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t, nil).browse(t)
			reach(p)
			call(p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
			p.reload()
			draw(t, name, p)
		})
	}
}
