package proxy

import "math/bits"

// slabs are buffers for requests that are too long to stay with the pooled ones: without them each is an
// allocation, and with values of some KiB the collector takes as much time as the loop.
type slabs struct {
	free [slabSizes][][]byte // by size: 8, 16, 32 and 64 KiB
	used bool                // since the last rest
}

const (
	smallSlab = 4 << 10 // what stays with its request
	slabSizes = 4
	mostSlab  = smallSlab << slabSizes
	// slabBytes bounds what is kept of each size: as much as is under way with some hundred connections.
	slabBytes = 4 << 20
)

// class is which size fits n bytes, more than smallSlab and at most mostSlab.
func class(n int) int { return bits.Len(uint(n-1)) - bits.Len(uint(smallSlab)) }

// copy returns src in dst's place, or in a longer buffer.
func (s *slabs) copy(dst, src []byte) []byte {
	n := len(src)
	if n <= cap(dst) || n <= smallSlab || n > mostSlab {
		return append(dst[:0], src...)
	}
	k := class(n)
	s.used = true
	if free := s.free[k]; len(free) > 0 {
		dst = free[len(free)-1]
		s.free[k] = free[:len(free)-1]
	} else {
		dst = make([]byte, 0, 2*smallSlab<<k)
	}
	return append(dst[:0], src...)
}

// keep takes a buffer that is not needed any more, and returns what may stay with its request.
func (s *slabs) keep(b []byte) []byte {
	n := cap(b)
	if n <= smallSlab {
		return b[:0]
	}
	if n <= mostSlab && n&(n-1) == 0 {
		if k := class(n); len(s.free[k])*n < slabBytes {
			s.free[k] = append(s.free[k], b[:0])
		}
	}
	return nil
}

// rest gives all of them back when none was taken since the last call.
func (s *slabs) rest() {
	if !s.used {
		*s = slabs{}
	}
	s.used = false
}
