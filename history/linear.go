package history

import (
	"maps"
	"math"
	"slices"

	"github.com/anishathalye/porcupine"
)

// registerModel is one register that holds a value, "" at first.
var registerModel = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		o := input.(Op)
		if o.Kind == Set {
			return true, o.Value
		}
		return o.Result == state.(string), state
	},
}

// Linearizable reports whether the Set and Get operations on each key can be put into one order
// that each client's view and the clock agree with; if not, it names the first key that they cannot.
// A write of unknown outcome may take effect at any time after it began, or never. The cost grows
// steeply with the number of operations on one key that are under way at the same time.
func Linearizable(ops []Op) (key string, ok bool) {
	keys := map[string][]porcupine.Operation{}
	for _, o := range ops {
		ended := o.Outcome == OK
		if o.Kind != Set && (o.Kind != Get || !ended) || o.Outcome == Error {
			continue
		}
		op := porcupine.Operation{ClientId: o.Client, Input: o, Call: int64(o.Invoked), Return: int64(o.Returned)}
		if !ended {
			op.Return = math.MaxInt64
		}
		keys[o.Key] = append(keys[o.Key], op)
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if !porcupine.CheckOperations(registerModel, keys[k]) {
			return k, false
		}
	}
	return "", true
}
