package command

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"github.com/underlane/underlane/test/cluster/component"
	"github.com/underlane/underlane/test/cluster/image"
)

func imagesCommand(o *options) *cobra.Command {
	b := image.Builder{Progress: o.out}
	cmd := &cobra.Command{
		Use:   "images [NAME...]",
		Short: "Build the images of our programs, and print the paths of their tars",
		RunE: func(_ *cobra.Command, names []string) error {
			all, err := o.images(b, func(s image.Source) bool {
				return len(names) == 0 && !s.Asked || slices.Contains(names, s.Name)
			})
			for _, tar := range all {
				fmt.Println(tar)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&b.Tag, "tag", "dev", "tag of the images")
	cmd.Flags().StringVar(&b.Version, "version", "dev", "version that the programs say they are")
	return cmd
}

// components are those that run in pods.
var components = map[string]component.Component{
	component.CoreDNS.Name: component.CoreDNS, component.Prometheus.Name: component.Prometheus,
	component.Traefik.Name: component.Traefik,
}

// images builds the images that want selects, and returns their tars.
func (o *options) images(b image.Builder, want func(image.Source) bool) ([]string, error) {
	repo, err := filepath.Abs(o.repo)
	if err != nil {
		return nil, err
	}
	b.Repo, b.Out = repo, filepath.Join(repo, "bin", "images")
	release, err := o.lockFile(filepath.Join(b.Out, "lock"), "another build of images")
	if err != nil {
		return nil, err
	}
	defer release()
	var tars []string
	for _, s := range slices.Concat(image.Sources, image.Components) {
		if !want(s) {
			continue
		}
		if s.Packages == nil {
			cache, err := component.Cache()
			if err != nil {
				return nil, err
			}
			dir, err := components[s.Name].Build(o.components(), cache, o.out)
			if err != nil {
				return nil, err
			}
			s.Executable = filepath.Join(dir, s.Name)
		}
		tar, err := b.Build(s)
		if err != nil {
			return nil, err
		}
		tars = append(tars, tar)
	}
	return tars, nil
}

// clusterImages builds the images that the cluster itself needs.
func (o *options) clusterImages() error {
	_, err := o.images(image.Builder{Tag: "dev", Version: "dev", Progress: o.out}, func(s image.Source) bool { return s.Cluster })
	return err
}

// imageTars lists the existing tars.
func (o *options) imageTars() ([]string, error) {
	return filepath.Glob(filepath.Join(o.repo, "bin", "images", "*.tar"))
}
