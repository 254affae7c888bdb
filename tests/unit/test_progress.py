"""A bar on the terminal, lines in a log in a batch."""

from mtkd.progress import bar


def run(**options) -> None:
    with bar("training", total=4, done=1, **options) as progress:
        for loss in (2.0, 1.0, 1.0):
            progress.step(examples=8, loss=loss)


def test_a_bar_on_the_terminal_and_nothing_where_it_is_hidden(capsys, monkeypatch):
    monkeypatch.delenv("MTKD_LOG", raising=False)
    run()
    assert "training:  25%" in capsys.readouterr().err
    run(hidden=True)
    assert capsys.readouterr() == ("", "")


def test_lines_in_a_log_in_a_batch(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MTKD_LOG", str(tmp_path / "run.log"))
    run()
    run()
    lines = (tmp_path / "run.log").read_text().replace("\r", "\n").split("\n")
    last = [line for line in lines if "4/4" in line]
    assert len(last) == 2 and "loss 1.960" in last[0] and "examples/s" in last[0]
    assert capsys.readouterr() == ("", "")
