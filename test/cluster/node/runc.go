package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// RuncCommand is the hidden subcommand that containerd runs as runc on a node without
// cgroup controllers. Its arguments are those of runc.
const RuncCommand = "node-runc"

const (
	runc          = "/usr/sbin/runc"
	limitlessFile = "runc"
	// limitless is a script, because containerd cannot add arguments to runc's path. The
	// executable of the node's init process is this tool.
	limitless = "#!/bin/sh\nexec /proc/1/exe " + RuncCommand + ` "$@"` + "\n"
)

// Runc executes runc. From a new container it first removes the limits, because there
// is no controller for them; containerd always sets some.
func Runc(args []string) error {
	if i := slices.Index(args, "--bundle"); slices.Contains(args, "create") && i >= 0 && i+1 < len(args) {
		if err := dropLimits(filepath.Join(args[i+1], "config.json")); err != nil {
			return fmt.Errorf("take the limits from a container: %w", err)
		}
	}
	return fmt.Errorf("run %s: %w", runc, unix.Exec(runc, append([]string{runc}, args...), os.Environ()))
}

// dropLimits removes linux.resources from an OCI bundle's configuration, except the
// rules for devices, which are BPF programs and need no controller.
func dropLimits(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	text, err = edit(text, "linux", func(linux []byte) ([]byte, error) {
		return edit(linux, "resources", func(resources []byte) ([]byte, error) {
			var kept struct {
				Devices json.RawMessage `json:"devices,omitempty"`
			}
			if err := json.Unmarshal(resources, &kept); err != nil {
				return nil, err
			}
			return json.Marshal(kept)
		})
	})
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, text, 0o600)
}

// edit changes the value of one key of a JSON object.
func edit(object []byte, key string, change func([]byte) ([]byte, error)) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil || fields[key] == nil {
		return object, err
	}
	var err error
	if fields[key], err = change(fields[key]); err != nil {
		return nil, err
	}
	return json.Marshal(fields)
}
