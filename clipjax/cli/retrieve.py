"""clipjax retrieve --weights ViT-B-32.pt --images flickr8k.tar --captions captions.csv"""

import argparse

from clipjax.cli.options import (
    add_images,
    add_json,
    add_weights,
    given,
    load_model,
    load_text_side,
    note_cut_texts,
    open_images,
    report_skipped,
    skipped_as_json,
)


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "retrieve",
        help="image-text retrieval: recall at 1, 5 and 10 in both directions",
        description="Rank captions for each image and images for each caption; print recall at 1, 5 and 10.",
    )
    add_weights(parser)
    add_images(parser)
    parser.add_argument(
        "--captions", type=given, required=True, metavar="FILE",
        help="a CSV of image,caption (Flickr), COCO's captions JSON, or a JSON object {image: [captions]}",
    )  # fmt: skip
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    import numpy as np

    from clipjax.classify.embed import embed_images, embed_texts
    from clipjax.cli.console import print_json, print_table, progress
    from clipjax.data.captions import captions_for, read_captions
    from clipjax.evaluation.retrieval import retrieval_ranks

    captions = read_captions(args.captions)
    source = open_images(args)
    captions_for(source, captions)  # complain about missing captions before the long part
    model, params = load_model(args, needs=("vision", "text"))
    tokenizer = load_text_side(args, model)
    images, rows, skipped = embed_images(
        model, params, source, batch_size=args.batch_size, skip_bad=args.skip_bad, progress=progress
    )
    texts, caption_image = captions_for(source.select(rows), captions)
    captions_embedded = embed_texts(model, params, tokenizer, texts, progress=progress)
    ranks = retrieval_ranks(_cosines(images, captions_embedded), caption_image)
    report_skipped(skipped)
    note_cut_texts(tokenizer, texts)
    result = {"images": len(images), "captions": len(texts)}
    for way, ahead in zip(("image_to_text", "text_to_image"), ranks):
        result |= {f"{way}_r{k}": 100 * float((ahead < k).mean()) for k in (1, 5, 10)}
        result[f"{way}_median_rank"] = 1 + float(np.median(ahead))
    if args.json:
        print_json({**result, "skipped": skipped_as_json(skipped)})
        return
    columns = ["direction", "R@1 %", "R@5 %", "R@10 %", "median rank"]
    table = [
        [way.replace("_", " "), *(result[f"{way}_{measure}"] for measure in ("r1", "r5", "r10", "median_rank"))]
        for way in ("image_to_text", "text_to_image")
    ]
    print_table(f"{len(images)} images and {len(texts)} captions with {args.weights}", columns, table)


def _cosines(images, texts):
    import numpy as np

    unit = lambda rows: rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit(images) @ unit(texts).T
