package alarm

// EvaluationState says what was wrong with the last evaluation. It is set by who reads the points: Evaluate works with
// what it is given.
type EvaluationState string

// The evaluation states, as AWS defines them ("Alarm evaluation state").
const (
	Complete          EvaluationState = ""                   // nothing was wrong
	PartialData       EvaluationState = "PARTIAL_DATA"       // not all data could be read within the limits; the state is of those read
	EvaluationError   EvaluationState = "EVALUATION_ERROR"   // the rule itself is at fault, as an expression that cannot be computed: StateReason says what
	EvaluationFailure EvaluationState = "EVALUATION_FAILURE" // the points could not be read; that is ours, and passes
)

// Unevaluated is the decision when there are no points to look at: the state stays, and the reason says what is wrong.
// No state is changed by a fault of ours, or by a rule that says nothing; both would raise or end alarms falsely.
func Unevaluated(before State, why EvaluationState, reason string) Decision {
	return Decision{State: before, Reason: reason, Evaluation: why}
}
