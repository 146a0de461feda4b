package view

// Edited is an application that was put into the configuration, or taken out of it.
type Edited struct {
	App       string         `json:"app"`
	Container string         `json:"container,omitempty"`
	Address   string         `json:"address,omitempty"`
	Hosts     []string       `json:"hosts"`
	Files     []MigratedFile `json:"files"` // that changed
	Changed   bool           `json:"changed"`
	Said      string         `json:"said"` // one line
	Next      []string       `json:"next"` // commands
	Outlook
}

func (p *people) Edited(e Edited) {
	for _, f := range e.Files {
		p.say("%s", p.paintDiff(f.Diff))
	}
	p.outlook(e.Outlook)
	p.say("%s\n", e.Said)
	for _, line := range e.Next {
		p.say("  %s\n", line)
	}
}

func (v *programs) Edited(e Edited) {
	v.write(struct {
		Edited
		outlook
	}{e, v.outlook(e.Outlook)})
}
