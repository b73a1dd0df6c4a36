// assets/model.tflite -> its bytes and labels, and an image's region and pixels for the model

import android.content.Context
import android.graphics.Bitmap
import android.graphics.Canvas
import android.graphics.Color
import android.graphics.RectF
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import kotlin.math.max
import kotlin.math.min
import kotlin.math.roundToInt
import org.json.JSONObject
import org.tensorflow.lite.support.metadata.MetadataExtractor

class ModelFile(context: Context) {
    val bytes: ByteBuffer = context.assets.openFd("model.tflite").use {
        FileInputStream(it.fileDescriptor).channel
            .map(FileChannel.MapMode.READ_ONLY, it.startOffset, it.declaredLength)
    }
    private val metadata = MetadataExtractor(bytes)
    val labels = metadata.getAssociatedFile("labels.txt").bufferedReader().readLines()
    private val rule =
        JSONObject(metadata.getAssociatedFile("preprocessing.json").bufferedReader().readText())
    private val height = rule.getJSONArray("image_size").getInt(0)
    private val width = rule.getJSONArray("image_size").getInt(1)

    /** An upright image, with black borders to the model's aspect ratio if the rule wants them. */
    fun padded(image: Bitmap): Bitmap {
        if (rule.getString("resize") != "pad") return image
        val modelRatio = width.toDouble() / height
        val padded = Bitmap.createBitmap(
            max(image.width, (image.height * modelRatio).roundToInt()),
            max(image.height, (image.width / modelRatio).roundToInt()),
            Bitmap.Config.ARGB_8888,
        )
        val left = (padded.width - image.width) / 2
        val top = (padded.height - image.height) / 2
        Canvas(padded).apply {
            drawColor(Color.BLACK)
            drawBitmap(image, left.toFloat(), top.toFloat(), null)
        }
        return padded
    }

    /** The region of a padded image that the model sees, in fractions of the image's sides. */
    fun region(image: Bitmap): RectF {
        val crop = rule.getDouble("crop")
        var horizontal = crop
        var vertical = crop
        if (rule.getString("resize") == "crop") {
            val modelRatio = width.toDouble() / height
            val imageRatio = image.width.toDouble() / image.height
            horizontal = crop * min(1.0, modelRatio / imageRatio)
            vertical = crop * min(1.0, imageRatio / modelRatio)
        }
        val left = ((1 - horizontal) / 2).toFloat()
        val top = ((1 - vertical) / 2).toFloat()
        return RectF(left, top, 1 - left, 1 - top)
    }

    /** The model's input for an upright image: red, green, blue of each pixel, from 0 to 255. */
    fun pixels(image: Bitmap): FloatArray {
        val padded = padded(image)
        val region = region(padded)
        var cropped = Bitmap.createBitmap(
            padded,
            (region.left * padded.width).roundToInt(),
            (region.top * padded.height).roundToInt(),
            (region.width() * padded.width).roundToInt(),
            (region.height() * padded.height).roundToInt(),
        )
        // Each halving averages 2x2 pixels; a single large step would skip most pixels.
        while (cropped.width >= 2 * width && cropped.height >= 2 * height) {
            cropped =
                Bitmap.createScaledBitmap(cropped, cropped.width / 2, cropped.height / 2, true)
        }
        val colours = IntArray(width * height)
        Bitmap.createScaledBitmap(cropped, width, height, true)
            .getPixels(colours, 0, width, 0, 0, width, height)
        return FloatArray(3 * colours.size) {
            val colour = colours[it / 3]
            when (it % 3) {
                0 -> Color.red(colour)
                1 -> Color.green(colour)
                else -> Color.blue(colour)
            }.toFloat()
        }
    }
}
