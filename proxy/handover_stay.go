package proxy

// Stay undoes a Leave that has handed every client over: clients are let in again. It is for a process of which
// another part could not be left.
func (p *Proxy) Stay() {
	l := p.loop
	l.call(func() {
		if l.departure != nil {
			l.stay(l.departure)
		}
	})
}
