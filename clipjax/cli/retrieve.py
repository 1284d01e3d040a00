"""clipjax retrieve --weights ViT-B-32.pt --images flickr8k.tar --captions captions.csv"""

import argparse

from clipjax.cli.options import (
    add_images,
    add_json,
    add_weights,
    load_model,
    load_text_side,
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
        "--captions", required=True, metavar="FILE",
        help="a CSV of image,caption (Flickr), COCO's captions JSON, or a JSON object {image: [captions]}",
    )  # fmt: skip
    add_json(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    from clipjax.classify.embed import embed_images, embed_texts
    from clipjax.cli.console import print_json, print_table, progress
    from clipjax.data.captions import captions_for, read_captions
    from clipjax.evaluation import median_rank, recall_at_k
    from clipjax.models.clip import unit

    source = open_images(args)
    captions = read_captions(args.captions)
    captions_for(source, captions)  # complain about missing captions before the long part
    model, params = load_model(args)
    tokenizer = load_text_side(args)
    images, rows, skipped = embed_images(
        model, params, source, batch_size=args.batch_size, skip_bad=args.skip_bad, progress=progress
    )
    report_skipped(skipped)
    texts, caption_image = captions_for(source.select(rows), captions)
    text = embed_texts(model, params, tokenizer, texts, progress=progress)
    similarity = _cosines(unit(images), unit(text))
    result = {"images": len(images), "captions": len(texts)}
    for k in (1, 5, 10):
        to_text, to_image = recall_at_k(similarity, caption_image, k)
        result[f"image_to_text_r{k}"], result[f"text_to_image_r{k}"] = 100 * to_text, 100 * to_image
    ranks = median_rank(similarity, caption_image)
    result["image_to_text_median_rank"], result["text_to_image_median_rank"] = ranks
    if args.json:
        print_json({**result, "skipped": skipped_as_json(skipped)})
        return
    columns = ["direction", "R@1 %", "R@5 %", "R@10 %", "median rank"]
    table = [
        [label, *(result[f"{way}_r{k}"] for k in (1, 5, 10)), result[f"{way}_median_rank"]]
        for label, way in (("image to text", "image_to_text"), ("text to image", "text_to_image"))
    ]
    print_table(f"{len(images)} images and {len(texts)} captions with {args.weights}", columns, table)


def _cosines(image, text):
    import numpy as np

    return np.asarray(image) @ np.asarray(text).T
