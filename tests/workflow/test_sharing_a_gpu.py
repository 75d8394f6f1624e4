"""Small networks share a GPU. The GPU is pretended: jobs lease it, and compute on the CPU."""


def test_two_networks_share_a_gpu_and_a_shard_has_it_alone(work, monkeypatch):
    monkeypatch.setenv("SYNAUG_DEVICES", "cpu:0")  # `cpu` is not leased
    monkeypatch.setenv("SYNAUG_JOBS_PER_DEVICE", "2")
    work.change(seeds=[0, 1, 2], generation={"steps": 3})
    run = work.run("results/test/metrics.parquet", "--resources", "gpu=1")
    assert run.status == 0, run.text
    running, together = {}, []
    for event in run.events:
        if event["event"] == "job_info":
            running[event["jobid"]] = event["rule_name"], event["resources"].get("gpu_share", 0)
        elif event["event"] == "job_finished":
            running.pop(event["job_id"])
        together.append(sorted(running.values()))
    assert {share for jobs in together for rule, share in jobs if rule == "generate_shard"} == {1000}
    assert {share for jobs in together for rule, share in jobs if rule in ("train", "finetune")} == {500}
    assert [("train", 500)] * 2 in together
    assert max(sum(share for _, share in jobs) for jobs in together) == 1000
