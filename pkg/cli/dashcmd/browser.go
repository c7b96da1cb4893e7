package dashcmd

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
)

// openers are the programs that open an address in the user's browser, by preference.
func openers() [][]string {
	switch runtime.GOOS {
	case "darwin":
		return [][]string{{"open"}}
	case "windows":
		return [][]string{{"rundll32", "url.dll,FileProtocolHandler"}}
	}
	return [][]string{{"wslview"}, {"xdg-open"}, {"x-www-browser"}}
}

// openBrowser starts a program that shows url. It does not wait for it.
func openBrowser(url string) error {
	if runtime.GOOS == "linux" && os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" && os.Getenv("WSL_DISTRO_NAME") == "" {
		return errors.New("there is no display")
	}
	err := errors.New("there is no program for it")
	for _, opener := range openers() {
		path, lookErr := exec.LookPath(opener[0])
		if lookErr != nil {
			continue
		}
		cmd := exec.Command(path, append(opener[1:], url)...)
		if err = cmd.Start(); err == nil {
			go func() { _ = cmd.Wait() }()
			return nil
		}
	}
	return err
}
