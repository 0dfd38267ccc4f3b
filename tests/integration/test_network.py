"""Nothing listens beyond loopback, and Ray asks for a token."""

import psutil

from tests.runs import Finished, Shell, wait_until


def test_everything_listens_on_loopback_with_a_token(finished: Finished, shell: Shell) -> None:
    (shell.folder / "tales").symlink_to(finished.shell.folder / "tales")
    process = shell.start("run", *finished.arguments, "--set", "train.epochs=40", "--set", "runtime.workers=2")
    wait_until(lambda: any((shell.folder / "runs" / ".tmp").glob("train-*/scratch/metrics.jsonl")), process)
    try:
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        names = {p.name() for p in family}
        assert {"raylet", "gcs_server"} <= names
        environment = next(p.environ() for p in family if p.name() == "gcs_server")
        assert environment["RAY_AUTH_MODE"] == "token"
        assert len(environment["RAY_AUTH_TOKEN"]) == 64
        assert environment["RAY_USAGE_STATS_ENABLED"] == "0"
        listening = {
            c.laddr
            for p in family
            for c in p.net_connections(kind="inet")
            if c.status == psutil.CONN_LISTEN
        }  # fmt: skip
        assert len(listening) > 3, "the listeners were not seen"
        assert {address.ip for address in listening} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        assert not (shell.folder / ".ray").exists(), "no token is left in the home folder"
    finally:
        process.terminate()
        process.communicate(timeout=60)
