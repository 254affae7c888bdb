import subprocess

from mtkd import provenance


def test_the_code_of_an_archive_knows_its_commit(monkeypatch):
    assert provenance.ARCHIVED == "$Format:%H$", "git archive replaces this"
    monkeypatch.setattr(provenance, "ARCHIVED", "0123456789abcdef" * 2)
    assert provenance.commit() == "0123456789ab"


def test_an_installed_package_does_not_take_another_projects_commit_for_its_own(
    tmp_path, monkeypatch
):
    package = tmp_path / ".venv" / "mtkd"
    package.mkdir(parents=True)
    commit = "-c user.name=a -c user.email=a@b commit -q --allow-empty -m x"
    for arguments in (["init", "-q"], commit.split()):
        subprocess.run(["git", "-C", tmp_path, *arguments], check=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "provenance.py"))
    assert provenance.commit() == "unknown"
