package audit

import "strings"

// families are tried in order: browsers name those that they descend from.
var families = []struct{ token, family string }{
	{"Edg/", "Edge"}, {"EdgA/", "Edge"}, {"EdgiOS/", "Edge"},
	{"OPR/", "Opera"}, {"OPT/", "Opera"}, {"SamsungBrowser/", "Samsung Internet"}, {"Vivaldi/", "Vivaldi"},
	{"Firefox/", "Firefox"}, {"FxiOS/", "Firefox"},
	{"CriOS/", "Chrome"}, {"HeadlessChrome/", "Chrome"}, {"Chrome/", "Chrome"},
	{"Safari/", "Safari"},
}

var systems = []struct{ token, system string }{
	{"iPhone", "iPhone"}, {"iPad", "iPad"}, {"Android", "Android"}, {"CrOS", "ChromeOS"},
	{"Windows", "Windows"}, {"Macintosh", "macOS"}, {"Linux", "Linux"},
}

// Browser reads the browser's family and the system from a User-Agent header,
// and nothing else of it. What is not recognised is "".
func Browser(userAgent string) (family, system string) {
	for _, f := range families {
		if strings.Contains(userAgent, f.token) {
			family = f.family
			break
		}
	}
	for _, s := range systems {
		if strings.Contains(userAgent, s.token) {
			system = s.system
			break
		}
	}
	return family, system
}
