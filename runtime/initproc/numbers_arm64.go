package initproc

const (
	newfstatatNumber   = 79
	seccompNumber      = 277
	keyctlNumber       = 219
	schedSetattrNumber = 274
	memfdNumber        = 279
	execveatNumber     = 281
)
