package certificate

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/mholt/acmez/v3/acme"

	"github.com/phoenix-hypervisor/phoenix/internal/object/spec"
	"github.com/phoenix-hypervisor/phoenix/internal/provider"
)

// stage is where in an issuance an error came up: the same ACME problem means another thing in another place.
type stage string

const (
	atAccount   stage = "account"
	atOrder     stage = "order"
	atChallenge stage = "challenge"
	atFinalize  stage = "finalize"
)

// challengeError is the CA's own account of why it could not prove a name.
type challengeError struct {
	name, kind string
	problem    acme.Problem
}

func (e *challengeError) Error() string {
	return fmt.Sprintf("the CA could not prove %s by %s: %s", e.name, e.kind, e.problem.Detail)
}

func (e *challengeError) Unwrap() error { return e.problem }

// hopeless are ACME problems (RFC 8555, section 6.7) that the same request meets again.
var hopeless = []string{
	acme.ProblemTypeBadCSR, acme.ProblemTypeBadPublicKey, acme.ProblemTypeBadSignatureAlgorithm, acme.ProblemTypeCAA,
	acme.ProblemTypeExternalAccountRequired, acme.ProblemTypeUserActionRequired, acme.ProblemTypeMalformed,
}

// refused are those by which a CA says that it does not sign a name.
var refused = []string{acme.ProblemTypeRejectedIdentifier, acme.ProblemTypeUnsupportedIdentifier,
	acme.ProblemTypeUnauthorized}

// classify marks what trying again cannot mend. All else, such as a CA that is down, a name that does not resolve yet,
// or a rate limit, passes.
func classify(s spec.Certificate, at stage, err error) error {
	err = fmt.Errorf("certificate for %s from %s: %w", s.CommonName, s.ACME.Directory, err)
	var p acme.Problem
	if errors.As(err, &p) {
		return classifyProblem(s, at, p, err)
	}
	var unknown x509.UnknownAuthorityError
	if errors.As(err, &unknown) {
		return provider.PermanentHint(err, "what answers there is not the pinned CA (root "+s.Fingerprint+
			"); if the CA was made anew on purpose, pin its root first")
	}
	var name x509.HostnameError
	if errors.As(err, &name) {
		return provider.PermanentHint(err, "add the name or address that clients dial to step_ca.dns_names")
	}
	return err
}

func classifyProblem(s spec.Certificate, at stage, p acme.Problem, err error) error {
	switch {
	case slices.Contains(refused, p.Type) && (at == atOrder || at == atFinalize):
		return provider.PermanentHint(err, "the CA's policy does not allow one of "+strings.Join(s.DNSNames, ", ")+
			": add it to step_ca.allowed_names, or take it out of certificates[].dns_names")
	case slices.Contains(hopeless, p.Type) && at != atChallenge:
		return provider.Permanent(err)
	}
	return err
}

func rootError(s spec.Certificate, err error) error {
	err = fmt.Errorf("certificate for %s: %w", s.CommonName, err)
	if errors.Is(err, fs.ErrNotExist) {
		return err // the trust object brings it
	}
	return provider.PermanentHint(err, "a root that is not the pinned one is never used; look at the trust object of "+
		"this container")
}
