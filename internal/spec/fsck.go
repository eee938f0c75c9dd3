package spec

// Finding is one thing that a check of the data root found to be wrong.
type Finding struct {
	Kind    string `json:"Kind"` // "blob", "layer", "image", "container", "log", "records"
	ID      string `json:"ID"`
	Problem string `json:"Problem"` // "damaged", "missing", "orphan"
	Detail  string `json:"Detail,omitempty"`
	// Of are the images that need it, by name or ID.
	Of []string `json:"Of,omitempty"`
	// Repaired: it is right again. Otherwise Advice says what would help.
	Repaired bool   `json:"Repaired"`
	Advice   string `json:"Advice,omitempty"`
}

// Leftover is a folder of a container, which may be gone.
type Leftover struct {
	Kind, Container string
	Path            string // below the data root
}

// CheckStep is one message of a check: how far it is, what it found, or (the last one) the sum.
type CheckStep struct {
	Progress *CheckProgress `json:"Progress,omitempty"`
	Finding  *Finding       `json:"Finding,omitempty"`
	Sum      *CheckSum      `json:"Sum,omitempty"`
	Error    string         `json:"Error,omitempty"` // the check could not go on
}

// CheckProgress is how far a check is.
type CheckProgress struct {
	Doing    string `json:"Doing"`
	Done, Of int
}

// CheckSum is what a check looked at.
type CheckSum struct {
	Blobs, Layers, Images int
	// Unverified layers came before their archives were recorded, and their blobs are not here.
	Unverified      int
	Found, Repaired int
}
