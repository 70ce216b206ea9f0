//! Forgetting points by rules or by name, and pinning them: planned first, so that nothing is done that was not shown.

use crate::retain::{Rules, Verdict, Zone, decide, decide_named};
use crate::store::Store;
use cairn_base::{Clock, Error, PointId, Result, SystemClock, Time};
use cairn_store::PointName;
use cairn_store::catalog::{self, Accepted, ForgetOptions, Forgotten, Pin, Retention, Survey};
use cairn_store::layout::machine_folder;
use std::collections::{BTreeMap, HashSet};

/// What would become of a machine's points, and why.
#[derive(Debug)]
pub struct ForgetPlan {
    survey: Survey,
    verdicts: Vec<Verdict>,
}

impl ForgetPlan {
    /// The machine's name; where it is lost, its folder.
    pub fn machine(&self) -> &str {
        self.survey.name()
    }

    /// What was decided: about all points, or about those that were named. In the order of their numbers.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts
    }

    /// The points that would be forgotten.
    pub fn forgotten(&self) -> HashSet<PointId> {
        let dropped = self.verdicts.iter().filter(|verdict| !verdict.kept);
        dropped.map(|verdict| verdict.point.file.id).collect()
    }

    /// What of the machine's points is damaged and stays.
    pub fn damaged(&self) -> impl Iterator<Item = &Error> {
        let going = self.forgotten();
        let unreadable = self.survey.unreadable().iter();
        let stays = unreadable.filter(move |(file, _)| !going.contains(&file.id));
        stays.map(|(_, error)| error).chain(self.survey.strays())
    }
}

/// A pinned point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedPoint {
    /// The machine's name; where it is lost, its folder.
    pub machine: String,
    /// The point.
    pub point: PointId,
    /// When it was made; none if it is gone.
    pub time: Option<Time>,
    /// Its pin, also one that has ended.
    pub pin: Pin,
}

/// How one machine of several fared: its name or folder, and what came of it.
pub type OfMachine<T> = (String, Result<T>);

impl Store {
    /// Decides what rules keep of a machine's points. Nothing is changed.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::Kind::Invalid) if the rules say nothing, unless all points may go; [`Kind::NotFound`](crate::Kind::NotFound) if the machine has no points;
    /// [`Kind::Damaged`](crate::Kind::Damaged) if nobody knows what is pinned; [`Kind::Denied`](crate::Kind::Denied) if the clock cannot be right; as the
    /// operating system reports.
    pub fn plan_forget(
        &self,
        machine: &str,
        rules: &Rules,
        zone: &Zone,
        options: &ForgetOptions,
    ) -> Result<ForgetPlan> {
        check_rules(rules, options)?;
        let plan = self.plan_folder(&machine_folder(machine), rules, zone, options)?;
        if plan.verdicts.is_empty() {
            return Err(
                Error::not_found(format!("there is no point of the machine `{machine}`"))
                    .advise("see `cairn points`"),
            );
        }
        Ok(plan)
    }

    /// As [`plan_forget`](Store::plan_forget), for every machine that has points. One that fails does not keep others from being planned.
    ///
    /// # Errors
    /// As [`plan_forget`](Store::plan_forget), if not even the machines can be listed, or the rules say nothing.
    pub fn plan_forget_all(
        &self,
        rules: &Rules,
        zone: &Zone,
        options: &ForgetOptions,
    ) -> Result<Vec<OfMachine<ForgetPlan>>> {
        check_rules(rules, options)?;
        let mut plans = Vec::new();
        for folder in catalog::machine_folders(&self.inner)? {
            match self.plan_folder(&folder, rules, zone, options) {
                Ok(plan) if plan.verdicts.is_empty() => {}
                Ok(plan) => plans.push((plan.machine().to_string(), Ok(plan))),
                Err(error) => plans.push((self.machine_of(&folder), Err(error))),
            }
        }
        Ok(plans)
    }

    fn plan_folder(
        &self,
        folder: &str,
        rules: &Rules,
        zone: &Zone,
        options: &ForgetOptions,
    ) -> Result<ForgetPlan> {
        let (survey, now) = self.survey(folder, options)?;
        let guard = options.guard(now, survey.immutable());
        let verdicts = decide(survey.points(), rules, &guard, zone);
        Ok(ForgetPlan { survey, verdicts })
    }

    /// Decides about points that a user names, machine by machine. Nothing is changed.
    ///
    /// # Errors
    /// As [`find_point`](Store::find_point) and [`plan_forget`](Store::plan_forget).
    pub fn plan_forget_points(
        &self,
        names: &[String],
        options: &ForgetOptions,
    ) -> Result<Vec<ForgetPlan>> {
        let mut named: BTreeMap<String, HashSet<PointId>> = BTreeMap::new();
        for name in names {
            let found = catalog::locate(&self.inner, &PointName::parse(name)?)?;
            named.entry(found.folder).or_default().insert(found.file.id);
        }
        let plans = named.into_iter().map(|(folder, ids)| {
            let (survey, now) = self.survey(&folder, options)?;
            let guard = options.guard(now, survey.immutable());
            let verdicts = decide_named(survey.points(), &ids, &guard);
            Ok(ForgetPlan { survey, verdicts })
        });
        plans.collect()
    }

    fn survey(&self, folder: &str, options: &ForgetOptions) -> Result<(Survey, i64)> {
        let survey = Survey::of(&self.inner, folder)?;
        let now = SystemClock.now().seconds;
        if !options.clock_is_right {
            survey.check_clock(now)?;
        }
        Ok((survey, now))
    }

    fn machine_of(&self, folder: &str) -> String {
        catalog::shown_machine(&self.inner, folder)
    }

    /// Forgets what the plans drop, machine by machine, in their order. What protects points is looked at once more: what is protected by now is
    /// kept, and told. A machine that fails does not keep others from being done.
    ///
    /// # Errors
    /// [`Kind::Busy`](crate::Kind::Busy) if another host writes: then nothing was done.
    pub fn forget(
        &self,
        plans: &[ForgetPlan],
        options: &ForgetOptions,
    ) -> Result<Vec<Result<Forgotten>>> {
        let permit = self.inner.writer()?;
        let done = plans.iter().map(|plan| {
            let wanted = plan.forgotten();
            let (survey, clock) = (&plan.survey, &SystemClock);
            catalog::forget(&self.inner, &permit, survey, &wanted, options, clock)
        });
        Ok(done.collect())
    }

    /// Records as forgotten what is gone of a machine, on the user's word; where its record of that and of the pins is damaged, a new one without pins.
    ///
    /// # Errors
    /// [`Kind::NotFound`](crate::Kind::NotFound) if there is no such machine; as the operating system reports.
    pub fn accept_gone(&self, machine: &str) -> Result<Accepted> {
        let permit = self.inner.writer()?;
        catalog::accept_gone(&self.inner, &permit, &machine_folder(machine))
    }

    /// What of a machine is pinned, and what was forgotten.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::Kind::Damaged) if nobody knows; as the operating system reports.
    pub fn retention(&self, machine: &str) -> Result<Retention> {
        catalog::retention_of(&self.inner, &machine_folder(machine))
    }

    /// All pins, machine by machine, and what could not be read.
    ///
    /// # Errors
    /// As the operating system reports.
    pub fn pins(&self) -> Result<(Vec<PinnedPoint>, Vec<Error>)> {
        let (mut pins, mut errors) = (Vec::new(), Vec::new());
        for folder in catalog::machine_folders(&self.inner)? {
            match catalog::pinned(&self.inner, &folder) {
                Ok(found) => {
                    let mut found: Vec<_> = found.into_iter().collect();
                    found.sort_by_key(|(point, time, _)| (*time, *point));
                    let machine = if found.is_empty() {
                        String::new()
                    } else {
                        self.machine_of(&folder)
                    };
                    pins.extend(found.into_iter().map(|(point, time, pin)| PinnedPoint {
                        machine: machine.clone(),
                        point,
                        time,
                        pin,
                    }));
                }
                Err(error) => errors.push(error),
            }
        }
        Ok((pins, errors))
    }

    /// Pins a point that a user names, or takes its pin away; whether anything changed.
    ///
    /// # Errors
    /// As [`find_point`](Store::find_point), but that the point need not be readable; [`Kind::Invalid`](crate::Kind::Invalid) for an impossible note.
    pub fn set_pin(&self, name: &str, pin: Option<Pin>) -> Result<bool> {
        let found = catalog::locate(&self.inner, &PointName::parse(name)?)?;
        let permit = self.inner.writer()?;
        catalog::set_pin(&self.inner, &permit, &found.folder, found.file.id, pin)
    }

    /// For how many seconds after they were made points of the store cannot be forgotten; 0: for none.
    ///
    /// # Errors
    /// [`Kind::Damaged`](crate::Kind::Damaged) if nobody knows; as the operating system reports.
    pub fn immutability(&self) -> Result<i64> {
        catalog::immutability(&self.inner)
    }

    /// Raises that time; answers what it was before. With `damaged` also where nobody knows it any more.
    ///
    /// # Errors
    /// [`Kind::Denied`](crate::Kind::Denied) if it would be lowered, [`Kind::Invalid`](crate::Kind::Invalid) for more than ten years; as the operating system reports.
    pub fn protect(&self, seconds: u64, damaged: bool) -> Result<Option<u64>> {
        let permit = self.inner.writer()?;
        catalog::protect(&self.inner, &permit, seconds, damaged)
    }
}

/// Rules that say nothing keep nothing: that must have been meant.
fn check_rules(rules: &Rules, options: &ForgetOptions) -> Result<()> {
    if rules.is_empty() && !options.allow_empty {
        return Err(Error::invalid("no rule says what is to be kept")
            .advise("say at least one, like --keep-daily 7"));
    }
    Ok(())
}
