package initproc

const (
	newfstatatNumber   = 79
	seccompNumber      = 277
	keyctlNumber       = 219
	schedSetattrNumber = 274
	readlinkatNumber   = 78
	setnsNumber        = 268
	memfdNumber        = 279
	execveatNumber     = 281
)
