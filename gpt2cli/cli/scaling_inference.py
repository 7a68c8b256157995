"""gpt2 fit-scaling inference: the model that costs least over training and use together."""

from __future__ import annotations

import click

from gpt2cli.cli.command import Gpt2Command
from gpt2cli.cli.console import Console
from gpt2cli.cli.options import Amount, Real, force_option, output_option
from gpt2cli.cli.scaling_options import ENVIRONMENT, law_options, the_law, warn_of_reach, write_records
from gpt2cli.errors import UsageFault


@click.command("fit-scaling", cls=Gpt2Command, context_settings=ENVIRONMENT)
@law_options
@click.option("--loss", type=Real(0, 100, min_open=True), metavar="L", help="The loss to reach, in nats a token.")
@click.option("--quality-of", type=Amount(1), metavar="N",
              help="Instead: the loss of N parameters trained compute-optimally.")
@click.option("--flops", type=Amount(1), metavar="C", help="Instead: the loss that C FLOP of training reach at best.")
@click.option("--inference-tokens", "tokens", type=Amount(0), multiple=True, required=True, metavar="D",
              help="Tokens the model will read and write in its life; repeatable.")
@output_option()
@force_option()
@click.pass_obj
def inference(
    console: Console, law: str | None, fit_file: str | None, loss: float | None, quality_of: int | None,
    flops: int | None, tokens: tuple[int, ...], output: str, force: bool,
) -> None:  # fmt: skip
    """Find the N and D that reach a loss with the least FLOP in training (6 N D) and use (2 N D_inference) together.

    Sardana et al. 2023: the more a model is used, the smaller it should be, and trained the longer.
    """
    from gpt2cli.cli.scaling_tables import filled, interval_text, short, show
    from gpt2cli.scaling import answers, inference_aware, resampled_answers, study
    from gpt2cli.scaling.optimum import optimum

    if sum(value is not None for value in (loss, quality_of, flops)) != 1:
        raise UsageFault("say which loss to reach by one of --loss, --quality-of and --flops")
    known = the_law(law, fit_file)
    surface, boot = answers.of_n_and_d(known), known.boot
    losses = None if boot is None else resampled_answers.losses_to_reach(boot, loss, quality_of, flops)
    if loss is None:
        loss = inference_aware.size_of_quality(surface, float(quality_of)) if quality_of is not None else (
            optimum(surface, float(flops or 0)).loss)  # fmt: skip
    records, rows = [], []
    for used in tokens:
        best, plain = inference_aware.for_life(surface, loss, float(used))
        saved = 1 - best.total / plain.total
        spread = {} if boot is None or losses is None else resampled_answers.lifetime_intervals(
            boot, losses, float(used), plain.n)  # fmt: skip
        records.append(study.rounded({
            "law": known.name, "flops": best.total, "kind": "inference", "count": known.count, "source": known.source,
            "loss_nats": loss, "inference_tokens": float(used), "n": best.n, "d": best.d,
            "train_flops": best.training, "inference_flops": best.inference, "n_opt": plain.n, "d_opt": plain.d,
            "flops_at_optimum": plain.total, "saved": saved, **spread,
        }))  # fmt: skip
        rows.append((short(float(used)), short(best.n), interval_text(spread.get("n_interval"), short), short(best.d),
                     interval_text(spread.get("d_interval"), short), f"{best.total:.3g}", short(plain.n),
                     short(plain.d), f"{plain.total:.3g}", f"{100 * saved:.1f} %"))  # fmt: skip
    write_records("gpt2.plan", records, output, force)
    show(f"{known.name}: a loss of {loss:.4f} for the least compute in a model's life (N: {known.count} parameters)",
         *filled(("inference tokens", "N", "95 % interval", "D", "95 % interval", "FLOP in all",
                          "train-optimal N", "D", "FLOP in all", "saved"), rows))  # fmt: skip
    warn_of_reach(console, known, records)
