package audit

import "github.com/phoenix-hypervisor/phoenix/internal/issued"

// Issued is what there is to say about the certificates that a CA issued: each that is not in order, and what could not
// be judged.
func Issued(object string, r issued.Report) Seen {
	var s Seen
	for _, v := range r.Certificates {
		one := []issued.Verdict{v}
		switch v.State {
		case issued.Unwanted:
			s.add(ruleUnwanted, object, issued.UnwantedFix(one), "the CA issued a certificate that nothing wants: %s",
				v.Words())
		case issued.Foreign:
			s.add(ruleForeignCertificate, object, issued.ForeignFix(one),
				"it is for names of container %s, which did not order it: %s", v.Container, v.Words())
		case issued.Unclear:
			reason := "whose certificate this is: container " + v.Container + " did not say: " + v.Words()
			s.Unseen = append(s.Unseen, Unseen{object, printable(reason)})
		}
	}
	return s
}
