package watch

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"understudy/alarm"
)

func composite(name, rule string, s *alarm.Suppressor) Alarm {
	return Alarm{Name: name, Composite: &Composite{Rule: rule, Suppressor: s}, Actions: Actions{Alarm: []string{name}, OK: []string{name}}}
}

func TestACompositeAlarmFollowsItsChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newWorld(t)
		world.set("a", 1)
		world.set("b", 1)
		w, stop := world.start()
		put(t, w, above("a", "a", time.Second), above("b", "b", time.Second))
		put(t, w, composite("both", `ALARM(a) AND ALARM("b")`, nil), composite("top", "ALARM(both)", nil))
		synctest.Wait()
		wantState(t, w, "top", alarm.OK)
		stop()
		w, stop = world.start() // the rules are learnt anew
		defer stop()
		world.set("a", 20)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantState(t, w, "both", alarm.OK)
		world.set("b", 20)
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantState(t, w, "both", alarm.Alarm)
		wantState(t, w, "top", alarm.Alarm)
		if both, _ := w.Alarm("both"); !strings.HasPrefix(both.Reason, "arn:aws:cloudwatch:us-east-1:123456789012:alarm:b transitioned to ALARM at Saturday 01 January, 2000 00:00:") {
			t.Error(both.Reason)
		}
		message := world.posts[len(world.posts)-1].Message
		if !strings.Contains(message, `"AlarmRule":"ALARM(both)","TriggeringChildren":[{"Arn":"arn:aws:cloudwatch:us-east-1:123456789012:alarm:both","State":{"Value":"ALARM","Timestamp":"2000-01-01T00:00:`) {
			t.Error(message)
		}
		for rule, want := range map[string]string{
			"ALARM(top)": "itself", "ALARM(none)": "does not exist", "ALARM(": "",
		} {
			err := w.Put(t.Context(), composite("both", rule, nil))
			if _, invalid := err.(alarm.Invalid); !invalid || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v", rule, err)
			}
		}
		if err := w.Put(t.Context(), composite("a", "TRUE", nil)); err == nil {
			t.Error("a metric alarm became a composite one")
		}
		if err := w.Delete(t.Context(), []string{"a", "both"}); err == nil || !strings.Contains(err.Error(), "Cannot delete both as there are composite alarm(s) depending on it: top") {
			t.Errorf("%v", err)
		}
		if err := w.Delete(t.Context(), []string{"a", "both", "top"}); err != nil {
			t.Error(err)
		}
	})
}

func TestASuppressorKeepsActionsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := newWorld(t)
		world.set("a", 1)
		world.set("maintenance", 20)
		w, stop := world.start()
		put(t, w, above("a", "a", time.Second), above("maintenance", "maintenance", time.Second))
		synctest.Wait()
		put(t, w, composite("page", "ALARM(a)", &alarm.Suppressor{Alarm: w.ARN("maintenance"), Wait: 10 * time.Second, Extension: 20 * time.Second}))
		step := func(metric string, v float64, after time.Duration) {
			world.set(metric, v)
			time.Sleep(after)
			synctest.Wait()
		}
		step("a", 20, 30*time.Second)
		if page, _ := w.Alarm("page"); page.State != alarm.Alarm || page.Suppression.By != alarm.ByAlarm {
			t.Errorf("%+v", page)
		}
		stop()
		w, stop = world.start() // an extension goes on in another process
		defer stop()
		step("maintenance", 1, 5*time.Second)
		if page, _ := w.Alarm("page"); page.Suppression.By != alarm.ByExtension {
			t.Errorf("%+v", page)
		}
		told := func() []string {
			return slices.DeleteFunc(world.taken(), func(s string) bool { return !strings.HasPrefix(s, "page") })
		}
		if len(told()) != 0 {
			t.Errorf("told while suppressed: %v", told())
		}
		step("a", 20, 20*time.Second)
		if want := []string{"page ALARM"}; !slices.Equal(told(), want) {
			t.Errorf("told %v, want %v", told(), want)
		}
		step("a", 1, 5*time.Second) // no suppressor in sight: its wait period goes by
		if page, _ := w.Alarm("page"); page.State != alarm.OK || page.Suppression.By != alarm.ByWait || len(told()) != 1 {
			t.Errorf("%+v, told %v", page, told())
		}
		step("a", 1, 10*time.Second)
		if want := []string{"page ALARM", "page OK"}; !slices.Equal(told(), want) {
			t.Errorf("told %v, want %v", told(), want)
		}
	})
}
