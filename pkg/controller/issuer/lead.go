package issuer

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/underlane/underlane/pkg/mtls/ca"
)

const (
	lookEvery  = 10 * time.Minute // checks what only time changes: an anchor expires, an issuer is due for rotation
	retryAfter = 5 * time.Second
	timeout    = 10 * time.Second // of one request
)

// Lead creates the Secret when there is none, rotates it when it is Underlane's own
// and 80 % of its life has passed, and keeps the ConfigMap up to date, until ctx
// ends. One replica runs it at a time. If two do, the API server accepts only the
// first write.
func (k *Keeper) Lead(ctx context.Context) error {
	wait := lookEvery
	for {
		if k.secret.filled() && k.anchors.filled() {
			wait = lookEvery
			if err := k.look(ctx, time.Now()); err != nil && ctx.Err() == nil {
				k.opt.Log.Warn("identity issuer or trust anchors could not be written: trying again", "after", retryAfter, "err", err)
				wait = retryAfter
			}
		}
		select {
		case <-k.lead:
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (k *Keeper) look(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	secret, exists := k.secret.get()
	if !exists {
		if k.opt.External {
			return nil // apply reports that it is missing
		}
		return k.create(ctx)
	}
	issuer, own, before, err := k.read()
	if err != nil {
		return nil //nolint:nilerr // apply reports the error; there is nothing to write
	}
	if !k.opt.External && isOurs(secret) && issuer.DueForRotation(now) {
		return k.rotate(ctx, secret, issuer)
	}
	return k.writeAnchors(ctx, string(ca.EncodePEM(bundle(now, own, before)...)))
}

func (k *Keeper) create(ctx context.Context) error {
	root, err := ca.NewRoot(k.opt.Authority.TrustDomain())
	if err != nil {
		return err
	}
	secret, err := newSecret(k.opt.Namespace, root, root.Chain)
	if err != nil {
		return err
	}
	_, err = k.opt.Client.CoreV1().Secrets(k.opt.Namespace).Create(ctx, secret, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil // another replica created it; the watch delivers it
	}
	if err != nil {
		return fmt.Errorf("make Secret %s: %w", SecretName, err)
	}
	k.opt.Log.Info("identity issuer made", "secret", SecretName, "expires", root.Cert().NotAfter)
	return nil
}

// Rotate replaces the issuer by its successor now, without waiting until it is due.
func (k *Keeper) Rotate(ctx context.Context) error {
	secret, exists := k.secret.get()
	if !exists || k.opt.External || !isOurs(secret) {
		return fmt.Errorf("the Secret %s is not the controller's to rotate", SecretName)
	}
	issuer, _, err := parseSecret(secret)
	if err != nil {
		return err
	}
	return k.rotate(ctx, secret, issuer)
}

// rotate replaces the issuer by a new one, which the old one cross-signs. The old
// issuer's anchors stay in the bundle until they expire.
func (k *Keeper) rotate(ctx context.Context, secret *corev1.Secret, issuer ca.Issuer) error {
	next, err := issuer.Successor(k.opt.Authority.TrustDomain())
	if err != nil {
		return fmt.Errorf("rotate the identity issuer: %w", err)
	}
	_, own, err := parseSecret(secret)
	if err != nil {
		return err
	}
	replacement, err := newSecret(k.opt.Namespace, next, bundle(time.Now(), next.Chain[:1], own))
	if err != nil {
		return err
	}
	updated := secret.DeepCopy() // its resourceVersion makes the API server refuse the second of two writes
	updated.Data = replacement.Data
	if _, err := k.opt.Client.CoreV1().Secrets(k.opt.Namespace).Update(ctx, updated, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("rotate the identity issuer: %w", err)
	}
	k.opt.Log.Info("identity issuer rotated", "secret", SecretName, "expires", next.Cert().NotAfter)
	return nil
}

// writeAnchors writes text as the ConfigMap's bundle.
func (k *Keeper) writeAnchors(ctx context.Context, text string) error {
	client := k.opt.Client.CoreV1().ConfigMaps(k.opt.Namespace)
	cm, exists := k.anchors.get()
	var err error
	switch {
	case !exists:
		_, err = client.Create(ctx, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: AnchorsName, Namespace: k.opt.Namespace, Labels: labels()},
			Data:       map[string]string{AnchorsKey: text},
		}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil // another replica created it; the watch delivers it
		}
	case cm.Data[AnchorsKey] != text:
		updated := cm.DeepCopy()
		if updated.Data == nil {
			updated.Data = map[string]string{}
		}
		updated.Data[AnchorsKey] = text
		_, err = client.Update(ctx, updated, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			return nil // another client wrote first; the watch delivers its version
		}
	}
	if err != nil {
		return fmt.Errorf("write ConfigMap %s: %w", AnchorsName, err)
	}
	return nil
}
