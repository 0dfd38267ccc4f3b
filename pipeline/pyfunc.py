"""The model as MLflow serves it. This file is copied into each registered model and run from there.

It is the "models from code" form: no pickle. Beside it lie `components` and the model folder, so that a
registered model works where this project is not installed.
"""

from typing import Any

import mlflow
import pandas as pd  # type: ignore[import-untyped]


class TextModel(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Continues or scores texts."""

    def load_context(self, context: Any) -> None:
        """Open the model folder."""
        from components.generate.language_model import LanguageModel

        self.model = LanguageModel.load(context.artifacts["model"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """One row per text in the column `prompt`.

        `task` "generate" gives the column `continuation`; "score" gives `log_probability` (natural logarithm,
        of the whole text), `tokens` and `perplexity`. Parameters: see the model's signature.
        """
        options = params or {}
        # MLflow makes one row with a list of {"prompt": ["a", "b"]}, and NaN of a missing text.
        prompts = model_input["prompt"].explode().fillna("").tolist()
        task = options.get("task", "generate")
        if task == "score":
            scores = self.model.score(prompts)
            columns = ("log_probability", "tokens", "perplexity")
            return pd.DataFrame({name: [getattr(score, name) for score in scores] for name in columns})
        if task != "generate":
            raise mlflow.MlflowException.invalid_parameter_value(f"task is {task!r}; it is generate or score")
        continuations = self.model.generate(
            prompts,
            int(options.get("max_new_tokens", 40)),
            temperature=float(options.get("temperature", 0.8)),
            top_k=int(options.get("top_k", 0)) or None,
            seed=int(options.get("seed", 0)),
        )
        return pd.DataFrame({"continuation": continuations})


mlflow.models.set_model(TextModel())
