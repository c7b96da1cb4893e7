package peers

import (
	"context"
	"fmt"

	"github.com/underlane/underlane/test/bench/floor"
)

func findFloor(_ context.Context, dir string) (string, error) { return floor.Build(dir) }

func floorConfig(s Setup) (map[string]string, []string) {
	args := []string{"-c", s.PKI.Cert, "-k", s.PKI.Key, "-a", s.PKI.Anchors}
	for _, h := range s.Hops {
		args = append(args, fmt.Sprintf("%s=%s%s%s", h.Listen, h.Connect, textIf(h.TLSIn, "+in"), textIf(h.TLSOut, "+out")))
	}
	return nil, args
}
