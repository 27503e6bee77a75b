package proxy

import "testing"

func TestSlabsAreTakenAgain(t *testing.T) {
	var s slabs
	long := make([]byte, 16<<10+40)
	b := s.copy(nil, long)
	if len(b) != len(long) || cap(b) != 32<<10 {
		t.Fatalf("len %d, cap %d; want %d in 32 KiB", len(b), cap(b), len(long))
	}
	if small := s.keep(b); small != nil {
		t.Error("a long buffer stays with its request")
	}
	if n := testing.AllocsPerRun(100, func() { s.keep(s.copy(nil, long)) }); n > 0 {
		t.Errorf("%v allocations for a request whose buffer was there", n)
	}
	if again := s.copy(nil, long); &again[0] != &b[0] {
		t.Error("another buffer was taken")
	}
}

func TestSlabsFitAndAreBounded(t *testing.T) {
	var s slabs
	for _, n := range []int{1, smallSlab, smallSlab + 1, 8 << 10, 8<<10 + 1, mostSlab, mostSlab + 1} {
		b := s.copy(nil, make([]byte, n))
		if len(b) != n {
			t.Errorf("%d bytes became %d", n, len(b))
		}
		if n > smallSlab && n <= mostSlab && (cap(b) < n || cap(b) >= 2*n) {
			t.Errorf("%d bytes are in %d", n, cap(b))
		}
		s.keep(b)
	}
	for range 10 * slabBytes / mostSlab {
		s.keep(make([]byte, 0, mostSlab))
	}
	if n := len(s.free[slabSizes-1]) * mostSlab; n > slabBytes {
		t.Errorf("%d bytes are kept", n)
	}
	s.rest()
	s.rest()
	if s.free[slabSizes-1] != nil {
		t.Error("buffers that nobody needs are kept")
	}
}
