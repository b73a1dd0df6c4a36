// Bitmap (ARGB_8888) -> (label, probability), best first, by MediaPipe Tasks

import android.content.Context
import android.graphics.Bitmap
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.core.ImageProcessingOptions
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier.ImageClassifierOptions

class MediaPipeClassifier(context: Context, private val model: ModelFile) : AutoCloseable {
    private val classifier = ImageClassifier.createFromOptions(
        context,
        ImageClassifierOptions.builder()
            .setBaseOptions(BaseOptions.builder().setModelAssetPath("model.tflite").build())
            .setMaxResults(5)
            .build(),
    )

    fun classify(image: Bitmap): List<Pair<String, Float>> {
        // Without a region of interest, MediaPipe squashes the whole image to the model's size.
        val padded = model.padded(image)
        val region =
            ImageProcessingOptions.builder().setRegionOfInterest(model.region(padded)).build()
        val result = classifier.classify(BitmapImageBuilder(padded).build(), region)
        return result.classificationResult().classifications().first().categories()
            .map { it.categoryName() to it.score() }
    }

    override fun close() = classifier.close()
}
