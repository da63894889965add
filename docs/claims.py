"""Write claims.md, beside this file, from the words of the claims: ``python docs/claims.py``."""

from pathlib import Path

from lowrankflow.claims.page import page

if __name__ == "__main__":
    Path(__file__).with_suffix(".md").write_text(page(), encoding="utf-8")
