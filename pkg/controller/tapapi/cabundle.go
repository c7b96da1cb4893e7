package tapapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	tapv1alpha1 "github.com/underlane/underlane/api/tap/v1alpha1"
)

// bundleEvery is how often the APIService is checked. Its caBundle must follow the
// trust anchors, and must be set again after a user has applied a manifest without it.
const bundleEvery = 15 * time.Second

const apiServicePath = "/apis/apiregistration.k8s.io/v1/apiservices/" + tapv1alpha1.APIService

// KeepCABundle keeps the caBundle of the APIService equal to the trust anchors
// until ctx ends, so that the API server accepts the serving certificate. Only the
// leader runs it.
func (s *Server) KeepCABundle(ctx context.Context) error {
	tick := time.NewTicker(bundleEvery)
	defer tick.Stop()
	last := ""
	for {
		err := s.writeCABundle(ctx)
		if err != nil && ctx.Err() == nil && err.Error() != last {
			s.opt.Log.Warn("the APIService of the tap API has no current caBundle: trying again", "err", err)
			last = err.Error()
		}
		if err == nil {
			last = ""
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// apiService has the fields of the object that this package reads and writes.
type apiService struct {
	Spec struct {
		CABundle []byte `json:"caBundle"`
	} `json:"spec"`
}

func (s *Server) writeCABundle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	client := s.opt.Client.Discovery().RESTClient()
	result := client.Get().AbsPath(apiServicePath).SetHeader("Accept", "application/json").Do(ctx)
	if err := result.Error(); err != nil {
		return fmt.Errorf("read APIService %s: %w", tapv1alpha1.APIService, err)
	}
	data, err := result.Raw()
	if err != nil {
		return fmt.Errorf("read APIService %s: %w", tapv1alpha1.APIService, err)
	}
	var have, want apiService
	if err := json.Unmarshal(data, &have); err != nil {
		return fmt.Errorf("read APIService %s: %w", tapv1alpha1.APIService, err)
	}
	want.Spec.CABundle = s.opt.Authority.AnchorsPEM()
	if len(want.Spec.CABundle) == 0 || bytes.Equal(have.Spec.CABundle, want.Spec.CABundle) {
		return nil
	}
	patch, err := json.Marshal(want)
	if err != nil {
		return err
	}
	if err := client.Patch(types.MergePatchType).AbsPath(apiServicePath).SetHeader("Accept", "application/json").Body(patch).Do(ctx).Error(); err != nil {
		return fmt.Errorf("write the caBundle of APIService %s: %w", tapv1alpha1.APIService, err)
	}
	s.opt.Log.Info("caBundle of the tap API's APIService written", "apiService", tapv1alpha1.APIService)
	return nil
}
