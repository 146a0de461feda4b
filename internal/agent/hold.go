package agent

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/phoenix-hypervisor/phoenix/internal/engine"
	"github.com/phoenix-hypervisor/phoenix/internal/object"
	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
)

// holdMost is how long a change of one object may hold the container's lock at a stretch, by its kind. At its end the
// change is given up, and tried again: what one object hangs on keeps no other one from being repaired for longer. What
// is known to take long holds no lock at all: starts and stops of units, scripts, installations, reloads, orders.
// Usual are milliseconds; the times are for a machine that is busy with much else.
var holdMost = map[string]time.Duration{
	spec.KindUser:        15 * time.Second, // useradd
	spec.KindPackage:     5 * time.Second,  // apt-get runs outside of the lock
	spec.KindFile:        2 * time.Minute,  // a program of 50 MB comes over the session
	spec.KindScript:      30 * time.Second, // its text comes over the session; it runs outside of the lock
	spec.KindCertificate: 15 * time.Second, // the order, the reload and the wait for who serves it are outside
	spec.KindTrust:       time.Minute,      // update-ca-certificates; the CA is asked outside of the lock
	spec.KindStepCA:      time.Minute,      // keys, certificates, the look into its database
	spec.KindUnit:        15 * time.Second, // daemon-reload, enable; it starts and stops outside of the lock
	spec.KindNginx:       15 * time.Second, // nginx -t; the reload is waited for outside of the lock
	// From the standby's start, 10 s at most, to the end of the restart; see the driver.
	spec.KindTraefik: time.Minute,
	spec.KindAgent:   15 * time.Second, // its list
}

// HoldMost is how long a change of the object may hold the container's lock.
func HoldMost(o object.Object) time.Duration {
	if most := holdMost[o.Address.Kind()]; most > 0 {
		return most
	}
	return time.Minute
}

// KeyLock gives locks of keys, as files beside that of the container.
func KeyLock(path string) func(ctx context.Context, key string) (func(), error) {
	return func(ctx context.Context, key string) (func(), error) {
		sum := sha256.Sum256([]byte(key))
		return engine.FileLock{Path: path + "-" + hex.EncodeToString(sum[:8])}.Lock(ctx)
	}
}
