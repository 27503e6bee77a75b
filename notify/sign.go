package notify

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // of signature version 1, which SNS's subscribers check to this day
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"understudy/cluster"
)

// signingKey signs messages, and is vouched for by a certificate that subscribers fetch.
type signingKey struct {
	key  *rsa.PrivateKey
	cert []byte // PEM
	path string // where it is served
}

// signer has the key when it is first needed: from the store, so that a restart does not change it.
type signer struct {
	store cluster.Store

	mu   sync.Mutex
	have *signingKey
}

// keptKey is the key's record.
type keptKey struct {
	Key  []byte `json:"key"`  // PKCS 8
	Cert []byte `json:"cert"` // DER
}

const keyRecord = prefix + "key"

// certificateYears: nothing renews it; who has the old one fetches the new one by its other address.
const certificateYears = 30

// get reads the key, or makes it.
func (s *signer) get(ctx context.Context) (*signingKey, error) {
	s.mu.Lock()
	have := s.have
	s.mu.Unlock()
	if have != nil {
		return have, nil
	}
	k, err := s.read(ctx)
	if k == nil && err == nil {
		k, err = s.create(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("the key that signs messages: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.have = k
	return k, nil
}

func (s *signer) read(ctx context.Context) (*signingKey, error) {
	entries, _, err := s.store.List(ctx, keyRecord)
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	var kept keptKey
	if err := json.Unmarshal(entries[0].Value, &kept); err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(kept.Key)
	if err != nil {
		return nil, err
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New("it is no RSA key")
	}
	sum := sha256.Sum256(kept.Cert)
	return &signingKey{key: private, cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: kept.Cert}),
		path: "/SimpleNotificationService-" + hex.EncodeToString(sum[:16]) + ".pem"}, nil
}

// create makes a key and a certificate for it. Of two processes that do so, the store keeps the first one's.
func (s *signer) create(ctx context.Context) (*signingKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "sns.understudy"}, NotBefore: now.Add(-time.Hour),
		NotAfter: now.AddDate(certificateYears, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: []string{"sns.understudy"},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(keptKey{Key: private, Cert: cert})
	if err != nil {
		return nil, err
	}
	if _, err := s.store.Swap(ctx, keyRecord, text, 0); err != nil && !errors.Is(err, cluster.ErrConflict) {
		return nil, err
	}
	k, err := s.read(ctx)
	if k == nil && err == nil {
		err = errors.New("it was not kept")
	}
	return k, err
}

// sign is base64 of RSA (PKCS 1 v1.5) over SHA1 (version 1) or SHA256 (version 2).
func (k *signingKey) sign(version, text string) (string, error) {
	hash, digest := crypto.SHA1, []byte(nil)
	if version == "2" {
		sum := sha256.Sum256([]byte(text))
		hash, digest = crypto.SHA256, sum[:]
	} else {
		sum := sha1.Sum([]byte(text))
		digest = sum[:]
	}
	signature, err := rsa.SignPKCS1v15(rand.Reader, k.key, hash, digest)
	return base64.StdEncoding.EncodeToString(signature), err
}
