package agent

// Adopt says which redis-server a node takes over.
type Adopt struct{}
