package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// RuncCommand is the hidden subcommand of the tool that containerd runs as runc
// on a node without cgroup controllers. Its arguments are runc's.
const RuncCommand = "node-runc"

const (
	runc          = "/usr/sbin/runc"
	limitlessFile = "runc"
	// limitless is a program for containerd, which takes no arguments: the
	// node's init is this tool.
	limitless = "#!/bin/sh\nexec /proc/1/exe " + RuncCommand + ` "$@"` + "\n"
)

// Runc becomes runc, and takes from a container that is made the limits that no
// controller is there for: containerd always asks for some.
func Runc(args []string) error {
	if i := slices.Index(args, "--bundle"); slices.Contains(args, "create") && i >= 0 && i+1 < len(args) {
		if err := dropLimits(filepath.Join(args[i+1], "config.json")); err != nil {
			return fmt.Errorf("take the limits from a container: %w", err)
		}
	}
	return fmt.Errorf("run %s: %w", runc, unix.Exec(runc, append([]string{runc}, args...), os.Environ()))
}

// dropLimits leaves of linux.resources in an OCI bundle's configuration the
// rules for devices, which are programs and need no controller.
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
