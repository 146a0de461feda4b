package view

// Sealed is a backup that was made, or brought back.
type Sealed struct {
	File     string `json:"file"`
	Root     string `json:"root"` // fingerprint
	Restored bool   `json:"restored,omitempty"`
	Changes  int    `json:"changes,omitempty"` // in the CA's volume, of a restore
	Next     string `json:"-"`                 // paste-ready: what comes then
}

func (p *people) Sealed(s Sealed) {
	p.progress.end()
	if !s.Restored {
		p.say("%s: the keys of the root sha256 %s, encrypted\nkeep the password or the identity as well, and not "+
			"beside it\n", s.File, s.Root)
		return
	}
	if s.Changes == 0 {
		p.say("the CA has the keys of the root sha256 %s already: 0 changes\n", s.Root)
		return
	}
	p.say("the root is back, sha256 %s\nthe others come next: %s\n", s.Root, s.Next)
}

func (v *programs) Sealed(s Sealed) { v.write(s) }
