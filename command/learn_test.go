package command

import (
	"slices"
	"testing"
)

// What is learned from a server of a command must never be less careful than what the table says of it.
func TestLearnedCommandsAreCarriedAsCarefullyAsKnownOnes(t *testing.T) {
	server := startServer(t)
	commands, err := server.Commands()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		known := Lookup(line(spaced(c.Name)))
		if known == nil || known.Name != c.Name || known.Script() {
			continue
		}
		got := Learn(Described{Name: c.Name, Arity: c.Arity, Flags: c.Flags, FirstKey: c.FirstKey, LastKey: c.LastKey, Step: c.Step,
			Container: slices.Contains(c.Flags, "container")})
		switch {
		case known.Flags.Has(Write) && !got.Flags.Has(Write):
			t.Errorf("%s writes, and is learned as %b", c.Name, got.Flags)
		case !known.Flags.Has(ReadOnly) && got.Flags.Has(ReadOnly):
			t.Errorf("%s does not only read, and is learned as %b", c.Name, got.Flags)
		case known.Class == Blocking && known.Flags.Has(BlockingFlag) && got.Class != Blocking:
			t.Errorf("%s blocks, and is learned as %v", c.Name, got.Class)
		case got.Idempotent(make([][]byte, max(c.Arity, -c.Arity))) && !got.Flags.Has(ReadOnly):
			t.Errorf("%s may be repeated by what was learned of it", c.Name)
		}
	}
}

func TestEveryCommandOfTheServerHasAClass(t *testing.T) {
	server := startServer(t)
	commands, err := server.Commands()
	if err != nil {
		t.Fatal(err)
	}
	version, err := server.Version()
	if err != nil {
		t.Fatal(err)
	}
	counts := map[Class]int{}
	for _, c := range commands {
		i := Lookup(line(spaced(c.Name)))
		if i == nil || i.Name != c.Name {
			if version == tableVersion {
				t.Errorf("%s has no class", c.Name)
			}
			t.Logf("%s is not in the table: a proxy asks the server", c.Name)
			continue
		}
		counts[i.Class]++
		if slices.Contains(c.Flags, "blocking") && i.Class != Blocking {
			t.Errorf("%s blocks and is %v", c.Name, i.Class)
		}
	}
	t.Logf("%s: %v", version, counts)
	for class := Shared; class <= Refused; class++ {
		if counts[class] == 0 {
			t.Errorf("no command is %v", class)
		}
	}
}

func TestWhatIsLearnedIsTakenAtItsWorst(t *testing.T) {
	for _, test := range []struct {
		in    Described
		class Class
		write bool
		known bool // the keys of three words
	}{
		{Described{Name: "json.get", Arity: -2, Flags: []string{"readonly"}, FirstKey: 1, LastKey: 1, Step: 1}, Shared, false, true},
		{Described{Name: "json.set", Arity: -3, Flags: []string{"write", "denyoom"}, FirstKey: 1, LastKey: 1, Step: 1}, Shared, true, true},
		{Described{Name: "new", Arity: -1}, Shared, true, false},
		{Described{Name: "box", Arity: -2, Flags: []string{"readonly"}, FirstKey: 1, LastKey: 1, Step: 1, Container: true}, Shared, true, false},
		{Described{Name: "moving", Arity: -2, Flags: []string{"readonly", "movablekeys"}, FirstKey: 1, LastKey: 1, Step: 1}, Shared, false, false},
		{Described{Name: "waits", Arity: -2, Flags: []string{"write", "blocking"}, FirstKey: 1, LastKey: 1, Step: 1}, Blocking, true, true},
		{Described{Name: "listens", Arity: -2, Flags: []string{"pubsub"}}, Dedicated, true, false},
	} {
		i := Learn(test.in)
		known := i.Keys(line("x y z"), func([]byte) {})
		if test.in.Name == "listens" {
			known = false // channels are no keys
		}
		if i.Class != test.class || i.Flags.Has(Write) != test.write || known != test.known {
			t.Errorf("%s: %v, write %v, keys known %v; want %v, %v, %v", i.Name, i.Class, i.Flags.Has(Write), known, test.class, test.write, test.known)
		}
		if i.Class == Blocking && !i.Blocks(line("x y z")) {
			t.Errorf("%s does not block", i.Name)
		}
	}
}
