"""Which stages of a seed can be made on their own, and how one is made."""

from __future__ import annotations

from potstill.pipeline.jobs import Job
from potstill.pipeline.outcomes import task_outcome
from potstill.pipeline.seed_run import SeedRun


def teacher_jobs(seed: SeedRun) -> list[Job]:
    """The networks of the ensembles, one a job."""
    run = seed.run
    if not run.trained_tasks:
        return []
    n_nets = len(run.teacher_nets()) * (2 if run.teachers.cross_fit else 1)
    tasks = run.trained_tasks if run.teachers.recipe == "single" else ("",)
    return [
        Job(what="network", seed=seed.seed, index=k, task=task)
        for k in range(n_nets)
        for task in tasks
    ]


def ensemble_jobs(seed: SeedRun) -> list[Job]:
    """Fine-tuning per task, for the recipes that have it."""
    if seed.run.teachers.recipe not in ("finetuned", "mt-dnn-kd"):
        return []
    return [Job(what="ensemble", seed=seed.seed, task=task) for task in seed.run.trained_tasks]


def single_jobs(seed: SeedRun) -> list[Job]:
    """The baselines of one model a task."""
    if "single" not in seed.run.evaluate.baselines:
        return []
    return [Job(what="single", seed=seed.seed, task=task) for task in _largest_first(seed)]


def lesson_jobs(seed: SeedRun) -> list[Job]:
    """What the ensembles say of each taught task's rows."""
    taught = seed.members
    return [
        Job(what="lesson", seed=seed.seed, task=task)
        for task in _largest_first(seed)
        if task in taught
    ]


def student_jobs(seed: SeedRun) -> list[Job]:
    """The student, and what it is compared with."""
    jobs = [Job(what="student", seed=seed.seed)]
    if "multitask" in seed.run.evaluate.baselines:
        jobs += [Job(what="baseline", seed=seed.seed), Job(what="long", seed=seed.seed)]
    return jobs


def finetuning_jobs(seed: SeedRun) -> list[Job]:
    """Copies of the student, fine-tuned per task."""
    if not seed.run.student.finetune:
        return []
    return [Job(what="finetuned", seed=seed.seed, task=task) for task in seed.tasks]


def outcome_jobs(seed: SeedRun) -> list[Job]:
    """What every system says of each task's reported rows."""
    return [Job(what="outcome", seed=seed.seed, task=task) for task in _largest_first(seed)]


def do(seed: SeedRun, job: Job) -> None:
    """Make the stages of a job."""
    if job.what == "network":
        # The cross-fitted networks are counted after the plain ones.
        cross_fit, index = divmod(job.index, len(seed.run.teacher_nets()))
        own = (job.task,) if job.task else None
        seed.ensembles(cross_fit=bool(cross_fit), only=index, teacher_tasks=own)
    elif job.what == "ensemble":
        for cross_fit in {False, seed.run.teachers.cross_fit}:
            seed.ensembles(cross_fit=cross_fit, teacher_tasks=(job.task,))
    elif job.what == "single":
        seed.single(seed.tasks[job.task])
    elif job.what == "lesson":
        seed.first_lesson(job.task)
    elif job.what == "baseline":
        seed.multitask_plain()
    elif job.what == "long":
        seed.multitask_long()
    elif job.what == "student":
        _ = seed.student
    elif job.what == "finetuned":
        seed.finetuned(seed.tasks[job.task])
    else:
        task_outcome(seed, seed.tasks[job.task])


def _largest_first(seed: SeedRun) -> list[str]:
    """Tasks by falling rows: what takes longest is not left to one process at the end."""
    return sorted(seed.tasks, key=lambda name: -len(seed.tasks[name].train))
